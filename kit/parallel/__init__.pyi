from .group import Group as Group, count as count, first_speaks as first_speaks, ranks as ranks, say_once as say_once
from .layers import synchronised as synchronised
from .ranks import ALONE as ALONE, Ranks as Ranks
