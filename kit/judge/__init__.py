"""Does being taught help on these data, with these networks, and which way of it? One question, one answer.

- `question`: the settings, and the rows that follow: hard labels, ordinary distillation, adaptive, small teacher first
- `answer`: table, verdicts, and the sentence that they decide
- `pictures`: what is drawn of it
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
