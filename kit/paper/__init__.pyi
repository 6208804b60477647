from .plan import Plan as Plan
from .settings import Settings as Settings
from .tables import TABLES as TABLES
