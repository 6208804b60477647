"""The paper: its printed numbers, each of its tables and figures as a list of runs, and its claims, judged.

A table's module has `ROLES` (whose data it needs), `run(plan, seeds, jobs)`, which trains what is missing and gives a
frame with a line a run, `summary(frame)` (kit beside paper, ready to print) and `verdicts(frame, plan)`. Where all runs
are known beforehand, `table(plan, seeds)` lists them; what Table 4 trains is for its searches to find. Tables 2 and 3,
and those of `kit.beyond`, take procedures of one's own (`own`) beside theirs, and judge them (`own_verdicts(frame,
plan)`). `figure2` is like them, but its frame is what its own `scores` makes: a line per network and image.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
