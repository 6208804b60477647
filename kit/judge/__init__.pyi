from .answer import Answer as Answer
from .answer import answer as answer
from .question import Method as Method
from .question import Question as Question
