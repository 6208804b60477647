from .layers import synchronised as synchronised
from .ranks import ALONE as ALONE
from .ranks import Group as Group
from .ranks import Ranks as Ranks
from .ranks import count as count
from .ranks import first_speaks as first_speaks
from .ranks import ranks_on as ranks_on
from .ranks import say_once as say_once
