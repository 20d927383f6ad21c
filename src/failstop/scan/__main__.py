"""`python -m failstop.scan`: the command where the `failstop` script is not installed.

Lives here: the start of the command. Never here: anything else.
"""

import sys

if __name__ == "__main__":
    try:
        from failstop.scan._command import main
    except ModuleNotFoundError as error:
        print(f"failstop scan needs {error.name}: pip install 'failstop[cli]'", file=sys.stderr)  # noqa: T201 - click is what is missing
        sys.exit(2)
    sys.exit(main())
