"""The command line, called in this process: what it prints, and the code it leaves with."""

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock

from iqpbfr_core import cli


@dataclass(frozen=True)
class Result:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments):
    """`iqpbfr` with these arguments; an exception it does not handle is raised here."""
    said, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", write_through=True) for _ in range(2))
    code = 0
    with (
        mock.patch.object(sys, "argv", ["iqpbfr", *map(str, arguments)]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(errors),
    ):
        try:
            cli.main()
        except SystemExit as left:
            code = left.code or 0
    return Result(code, *(stream.buffer.getvalue().decode() for stream in (said, errors)))
