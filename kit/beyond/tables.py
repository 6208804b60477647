"""All tables by number: the paper's, and those that come after it."""

from kit.beyond import table5, table6
from kit.paper.tables import TABLES as PAPERS

TABLES = PAPERS | {"5": table5, "6": table6}
