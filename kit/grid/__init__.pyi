from .dask import DaskCluster as DaskCluster
from .durations import Pace as Pace
from .engines import (
    Engine as Engine,
    LocalProcesses as LocalProcesses,
    Task as Task,
    default_jobs as default_jobs,
    engine_for as engine_for,
)
from .schedule import carry_out as carry_out, urgency as urgency
from .shared import SharedLogits as SharedLogits, shared_logits as shared_logits
from .together import train_together as train_together
from .training import Grid as Grid, train_all as train_all
