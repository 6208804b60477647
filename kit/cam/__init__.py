"""Grad-CAM and its relatives: what in an image speaks for a class (`heat_maps`), and how right that is (`scores`)."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
