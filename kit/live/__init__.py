"""A training that is steered while it runs: its session, its pictures and the cockpit around them. Loaded when used.

- `session`: a training on a thread of its own, steered through a queue
- `cockpit`: sliders and pictures of one session or two in a notebook
- `plots`: curves of a history that grows
- `page`: whether a browser still watches
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
