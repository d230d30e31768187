"""``python -m garrison``: the same as ``garrison``."""

import sys

from garrison.cli import main

if __name__ == "__main__":
    sys.exit(main())
