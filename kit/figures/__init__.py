"""Figures without a browser: notebooks are executed, and a manifest says what each drew. Loaded when used.

- `needs`: what may be asked for, and the runs that each notebook shows
- `make`: runs and notebooks as tasks of one schedule
- `execute`: one notebook in a worker
- `manifest`: what was drawn from what
- `pages`: executed notebooks as pages to read
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
