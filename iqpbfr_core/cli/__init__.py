"""The command line: one verb per module.

Anything the user can mend ends in a message and exit code 2; where only some of several files fail, it is 1.
"""

import io
import sys

import typer

from .. import __version__
from ..errors import InputError, IQPError, MissingPackageError
from ..extras import needs
from . import degrade, doctor, download, optimize, restore, score, sweep, weights
from .console import report

app = typer.Typer(
    help="Blind face restoration with an image quality prior.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


app.command("restore")(restore.restore)
app.command("optimize")(optimize.optimize)
app.command("sweep")(sweep.sweep)
app.command("score")(score.score)
app.command("metrics")(score.metrics)
app.command("degrade")(degrade.degrade)
app.command("download")(download.download)
app.command("doctor")(doctor.doctor)
app.command("info")(weights.info)
app.command("convert")(weights.convert)


def _add_training() -> None:
    """The verbs that need the extra `train`. Without it they are there, and say so when they are called."""
    try:
        with needs("train", "this command"):
            from . import benchmark, evaluate, evidence, train
    except MissingPackageError as error:
        missing = error

        def refuse(_: typer.Context) -> None:
            raise missing

        for name in ("benchmark", "evaluate", "evidence", "train"):
            anything = {"ignore_unknown_options": True, "allow_extra_args": True}
            app.command(name, help=f"Not installed: {missing}", context_settings=anything)(refuse)
    else:
        app.command("benchmark")(benchmark.benchmark)
        app.command("evaluate")(evaluate.evaluate)
        app.command("evidence")(evidence.evidence)
        app.add_typer(train.app, name="train")


_add_training()


def main() -> None:
    """Entry point of `iqpbfr`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        if "" in sys.argv[1:]:
            raise InputError("one of the arguments is empty, which would mean the current folder; write . for that.")
        app()
    except (IQPError, OSError) as error:  # OSError: a full disk, a folder without permission
        report("Error", str(error))
        sys.exit(2)
