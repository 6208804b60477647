"""What comes after the paper: tables that it does not have, numbered on from its own.

A table's module has what the paper's tables have (`kit.paper`); `TABLES` holds both. What is printed of its rows is
printed elsewhere, under another protocol, so it stands beside a row's measured gain and is no figure to reach.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
