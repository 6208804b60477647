from .dask import DaskCluster as DaskCluster
from .durations import Pace as Pace
from .engines import (
    Engine as Engine,
)
from .engines import (
    LocalProcesses as LocalProcesses,
)
from .engines import (
    Task as Task,
)
from .engines import (
    default_jobs as default_jobs,
)
from .engines import (
    engine_for as engine_for,
)
from .schedule import carry_out as carry_out
from .schedule import urgency as urgency
from .shared import SharedLogits as SharedLogits
from .shared import shared_logits as shared_logits
from .together import train_together as train_together
from .training import Grid as Grid
from .training import train_all as train_all
