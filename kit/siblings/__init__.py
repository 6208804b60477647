"""Other ways to move the temperature or to imitate a teacher, a file each: rows beside the paper's own.

    from kit.siblings import SIBLINGS

    table2.run(plan, 3, own=SIBLINGS)  # each a row of Table 2, from the same teachers, under the same budget

- `rows`: SIBLINGS, by the label and reading that they carry in a table
- `base`: what they share: a soft loss with a weight of its own beside the hard labels
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
