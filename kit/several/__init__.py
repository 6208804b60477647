"""Several teachers in one stage: what each counts, and a temperature for all of them or one of each. A method a file.

    from kit.several import Graduation, MinNorm, several

    stage = several(("small", "big"), Weighted(weights=MinNorm()), Graduation(rate=100.0))

- `base`: what weights are; the loss that they weigh, which records how hard each teacher pulls; the stage
- `together`, `graduation`: one t for all; one t a teacher, who is dropped once it is cold
- `levels`: teachers' logits brought to one deviation first
- `entropy`, `min_norm`, `confidence`, `followed`, `drawn`: weights, a file each
- `averaged`: what averaging logits or probabilities gives instead
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
