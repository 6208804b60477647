"""Many runs side by side: engines that do tasks, their order, and what several runs share."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
