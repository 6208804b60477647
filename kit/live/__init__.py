"""A training that is steered while it runs: its session, its pictures and the cockpit around them. Loaded when used.

- `session`: a training on a thread of its own, steered through a queue
- `state`: how a session stands
- `teachers`: those that it misses, trained in a process of their own
- `cockpit`: the controls and pictures of one session or two in a notebook
- `lane`: one session's sliders, its distributions and where its networks look
- `plots`: what curves of a history show
- `snapshot`: what is shown, in files
- `drawn`: what the page draws itself, and whether a browser still watches
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
