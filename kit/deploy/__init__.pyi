from .classifier import Accuracy as Accuracy
from .classifier import Classifier as Classifier
from .export import FORMATS as FORMATS
from .export import Exported as Exported
from .export import export as export
from .predictions import Predictions as Predictions
from .predictions import predict as predict
