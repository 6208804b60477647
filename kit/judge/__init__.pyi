from .answer import Answer as Answer
from .answer import answer as answer
from .pictures import Judged as Judged
from .pictures import draw as draw
from .question import Method as Method
from .question import Question as Question
