from .group import Group as Group
from .group import count as count
from .group import first_speaks as first_speaks
from .group import ranks_on as ranks_on
from .group import say_once as say_once
from .layers import synchronised as synchronised
from .ranks import ALONE as ALONE
from .ranks import Ranks as Ranks
