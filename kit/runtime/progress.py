"""`Progress`: a callback that hears how far a piece of work is."""

from collections.abc import Callable

Progress = Callable[[float], None]  # hears the share that has been done since it was last called, often none
