"""``python -m autotag.training``: trains the bundled mini models."""

import sys

from autotag.training.commands import main

if __name__ == "__main__":
    sys.exit(main())
