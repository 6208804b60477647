from . import scores as scores
from .heat_maps import (
    BATCH as BATCH,
)
from .heat_maps import (
    CELLS as CELLS,
)
from .heat_maps import (
    METHODS as METHODS,
)
from .heat_maps import (
    Cells as Cells,
)
from .heat_maps import (
    HeatMaps as HeatMaps,
)
from .heat_maps import (
    convolutions as convolutions,
)
from .heat_maps import (
    default_layer as default_layer,
)
from .heat_maps import (
    evaluating as evaluating,
)
from .heat_maps import (
    feature_maps as feature_maps,
)
from .heat_maps import (
    maps as maps,
)
from .heat_maps import (
    nameable as nameable,
)
