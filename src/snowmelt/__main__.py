"""``python -m snowmelt`` is the command line."""

import sys

from snowmelt.cli import main

if __name__ == "__main__":
    sys.exit(main())
