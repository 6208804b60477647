"""Knowledge distillation with an adaptive temperature and a small teacher. What to import from where:

| the method, read in one sitting | |
|---|---|
| `kit.losses` | Eq. (1), L_D, KL, the temperature's gradient |
| `kit.temperature` | what t is next: `Policy`, `Fixed`, `Adaptive`, `Scheduled` |
| `kit.recipe` | stages as data: `Objective`, `Stage`, `Recipe`; `small_teacher()` is the paper's procedure |
| `kit.models` | the five networks: `ModelSpec`, `build` |
| `kit.trainer` | the one loop: `Training` |

| rooms, from the ground up | |
|---|---|
| `kit.errors`, `kit.files`, `kit.runtime` | `KitError`; atomic files, locks, the cache; threads and memory |
| `kit.parallel`, `kit.networks` | one training on several processes; searched networks, folding, FLOPs |
| `kit.data` | `load(role, px=…)`: images of the paper's four roles, real or stand-ins |
| `kit.training` | what surrounds the loop: moments, thermostat, steering, history, cost, evaluation |
| `kit.runs` | `Run`, `train`, `find`: a run's description, folder and training |
| `kit.grid` | `train_all`: many runs side by side, here or on a Dask cluster |
| `kit.deploy` | `predict`, `export`: a finished student on your pictures, and taken home |
| `kit.cam`, `kit.derivation` | heat maps and their scores; Section 1.1 by sympy and tensors |
| `kit.methods` | the methods that Table 4 compares with |
| `kit.paper` | `Plan`, `Settings`, `TABLES`: presets, printed numbers, tables, claims and their verdicts |
| `kit.several` | several teachers in one stage: what each counts, and one temperature for all or one each |
| `kit.siblings`, `kit.beyond` | other temperatures and losses; all `TABLES`: the paper's and those after it |
| `kit.show`, `kit.live`, `kit.figures`, `kit.cli` | pictures; the cockpit; notebooks, headlessly; commands |

Importing this package imports none of them: a name is loaded when it is first used. It does say by which instructions
torch computes on an x86-64 processor: `kit.runtime.process`.
"""

import lazy_loader as lazy

from kit.runtime.process import compute_alike

compute_alike()
__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
