"""`python -m failstop.scan`: the command where the `failstop` script is not installed.

Lives here: the start of the command. Never here: anything else.
"""

import sys

from failstop.scan._command import main

if __name__ == "__main__":
    sys.exit(main())
