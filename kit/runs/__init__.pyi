from .spec import (
    NUMERICS as NUMERICS,
)
from .spec import (
    PACKAGES as PACKAGES,
)
from .spec import (
    DataSpec as DataSpec,
)
from .spec import (
    HeldOutSpec as HeldOutSpec,
)
from .spec import (
    LevelSpec as LevelSpec,
)
from .spec import (
    Run as Run,
)
from .spec import (
    changed as changed,
)
from .spec import (
    hash_of as hash_of,
)
from .spec import (
    replayed as replayed,
)
from .spec import (
    versions as versions,
)
from .spec import (
    with_teachers as with_teachers,
)
from .store import (
    FORMAT as FORMAT,
)
from .store import (
    Damaged as Damaged,
)
from .store import (
    Entry as Entry,
)
from .store import (
    Failure as Failure,
)
from .store import (
    Result as Result,
)
from .store import (
    Stored as Stored,
)
from .store import (
    cache_folder as cache_folder,
)
from .store import (
    cached as cached,
)
from .store import (
    entry_of as entry_of,
)
from .store import (
    find as find,
)
from .store import (
    folder_of as folder_of,
)
from .store import (
    found as found,
)
from .store import (
    locked as locked,
)
from .store import (
    outcome as outcome,
)
from .store import (
    procedure_flops as procedure_flops,
)
from .store import (
    set_aside as set_aside,
)
from .store import (
    stored as stored,
)
from .store import (
    usable as usable,
)
from .training import (
    compute_logits as compute_logits,
)
from .training import (
    start as start,
)
from .training import (
    teacher_logits as teacher_logits,
)
from .training import (
    train as train,
)
from .training import (
    train_missing as train_missing,
)
