from .export import FORMATS as FORMATS
from .export import Exported as Exported
from .export import export as export
from .predictions import Accuracy as Accuracy
from .predictions import Classifier as Classifier
from .predictions import Predictions as Predictions
from .predictions import predict as predict
