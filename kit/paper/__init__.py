"""The paper: its printed numbers, each of its tables and figures as a list of runs, and its claims, judged.

A table's module has `table(plan, seeds)` (its rows), `seeds(plan)` (how many by default), `summary(frame)` (kit beside
paper, ready to print) and `verdicts(frame, plan)`; `frame` is what `kit.paper.plan.collect` makes of the results.
`figure2` has the same, but its frame is what its own `scores` makes: a line per network and image.
"""

from kit.paper import table1, table2, table3

TABLES = {"1": table1, "2": table2, "3": table3}
