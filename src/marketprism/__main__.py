"""`python -m marketprism`."""

import sys

from marketprism.cli import main

if __name__ == "__main__":
    sys.exit(main())
