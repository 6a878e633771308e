"""`python -m tltoolkit` is the command line."""

import sys

from tltoolkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
