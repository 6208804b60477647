from .base import Dataset as Dataset
from .base import Split as Split
from .base import TensorImages as TensorImages
from .roles import ROLES as ROLES
from .roles import SOURCES as SOURCES
from .roles import download as download
from .roles import load as load
from .roles import real_folder as real_folder
