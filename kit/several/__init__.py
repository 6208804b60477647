"""Several teachers in one stage: what each counts, and a temperature for all of them or one of each.

    from kit.several import Graduation, MinNorm, several

    stage = several(("small", "big"), Weighted(weights=MinNorm()), Graduation(rate=100.0))

- `weights`: what each teacher counts
- `losses`: the loss that they weigh, which records how hard each teacher pulls, and averages instead; the stage
- `temperatures`: one t for all; one t a teacher, who is dropped once it is cold; teachers' logits on one level first
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
