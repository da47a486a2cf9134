"""`python -m iqpbfr_core` is `iqpbfr`."""

import sys

from .errors import MissingPackageError
from .extras import needs


def main() -> None:
    """Entry point of `iqpbfr`; without the extra `cli` there is nothing to print nicely with."""
    try:
        with needs("cli", "the command line"):
            from . import cli
    except MissingPackageError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
