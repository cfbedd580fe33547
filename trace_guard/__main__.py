"""``python -m trace_guard`` is the ``trace-guard`` command."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
