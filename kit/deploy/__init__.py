"""A finished student put to use: on pictures of anyone's here, or taken home as files that need no kit."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
