"""A training that is steered while it runs: its session, its pictures and the cockpit around them. Loaded when used.

- `session`: a training on a thread of its own, steered through a queue
- `cockpit`: sliders and pictures of one session or two in a notebook
- `plots`: what curves of a history show, for the page and for a file
- `drawn`: what the page draws itself
- `page`: whether a browser still watches
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
