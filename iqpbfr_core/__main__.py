"""`python -m iqpbfr_core` is `iqpbfr`."""

from .cli import main

main()
