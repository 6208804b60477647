"""The paper's tables by number."""

from kit.paper import table1, table2, table3, table4

TABLES = {"1": table1, "2": table2, "3": table3, "4": table4}
