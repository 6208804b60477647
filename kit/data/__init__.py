"""The paper's four datasets as roles, each filled by real images where they are on disk, else by an embedded stand-in.

`load` fills a role (`roles`); what it gives is a `Dataset` (`base`). A name is imported when it is first used, so that
importing this package alone imports no torch. `load` is defined in `roles`, not in a module of its own name, which
would hide the function here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
