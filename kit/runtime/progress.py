"""How far a piece of work is, told to whoever waits for it."""

from collections.abc import Callable

Progress = Callable[[float], None]  # hears the share that has been done since it was last called, often none
