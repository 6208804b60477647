from .tables import TABLES as TABLES
