"""The command line: one verb per module, imported when it is called, so that `--help` answers at once.

Anything the user can mend ends in a message and exit code 2; where only some of several files fail, it is 1.
"""

import io
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import InputError, IQPError
from ..extras import needs


@dataclass(frozen=True)
class Verb:
    """Where a command is found, the panel it is listed in, and its line there."""

    module: str
    panel: str
    summary: str
    extra: str = "cli"


VERBS = {
    "restore": Verb("restore", "Faces", "Restore, colorize or inpaint the faces in photos, or aligned face crops."),
    "optimize": Verb("optimize", "Faces", "Restore aligned faces, then search their codes for a higher score."),
    "sweep": Verb("sweep", "Faces", "One aligned face at several qualities and fidelities: a grid with scores."),
    "score": Verb("score", "Faces", "Score images without a reference."),
    "metrics": Verb("score", "Faces", "List the metrics that `score` knows."),
    "degrade": Verb("degrade", "Faces", "Make faces bad in the standard way: blur, downsample, noise, JPEG."),
    "download": Verb("download", "Files", "Download a published model into the folder it belongs in."),
    "doctor": Verb("doctor", "Files", "Say what is installed here, what is missing, and which models lie where."),
    "info": Verb("weights", "Files", "Say what a weight file is, and what it was trained for."),
    "convert": Verb("weights", "Files", "Rewrite a weight file as .safetensors with its config inside."),
    "benchmark": Verb("benchmark", "Research", "Compare restorers, and other people's results, on the same faces.", "train"),
    "evaluate": Verb("evaluate", "Research", "Degrade faces, restore them and measure.", "train"),
    "evidence": Verb("evidence", "Research", "Recompute the claims of the method on held-out faces.", "train"),
    "pack": Verb("pack", "Research", "Put a folder of faces into shards to train on."),
    "train": Verb("train", "Research", "Train metric, restorer, score adapters, face detector.", "train"),
}  # fmt: skip


class Verbs(TyperGroup):
    """Knows the verbs by name and summary; the module of the one that is called is imported."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load(name), rest


def load(name: str) -> Any:
    """The command behind a verb; MissingPackageError where its extra is not installed."""
    verb = VERBS[name]
    with needs(verb.extra, "this command"):
        module = import_module(f".{verb.module}", __name__)
    found = getattr(module, name, None) or module.app
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        found = alone
    return typer.main.get_command(found)


app = typer.Typer(
    cls=Verbs,
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


def _listed() -> None:
    """What stands for a verb until it is called."""


for _name, _verb in VERBS.items():
    app.command(_name, help=_verb.summary, rich_help_panel=_verb.panel)(_listed)


def main() -> None:
    """Entry point of `iqpbfr`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        if "" in sys.argv[1:]:
            raise InputError("one of the arguments is empty, which would mean the current folder; write . for that.")
        app()
    except (IQPError, OSError) as error:  # OSError: a full disk, a folder without permission
        from .console import report

        report("Error", str(error))
        sys.exit(2)
