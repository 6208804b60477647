from .rows import SIBLINGS as SIBLINGS
