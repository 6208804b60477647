"""`python -m kit`; the commands are in `kit.cli`."""

import sys

from kit.cli.main import main, run

__all__ = ["main", "run"]

if __name__ == "__main__":
    sys.exit(run())
