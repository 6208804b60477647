"""Table 4's methods, a file each. Loaded when used, so that a worker loads only the method that it trains by.

- `rows`: METHODS, the table's rows in order
- `base`: what a method is, and what all are given alike
- `search`, `reinforce`: what the methods that search have in common
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
