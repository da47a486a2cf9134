"""What the commands share: consoles, the choice of device, and files worked through one after the other."""

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from ..errors import InputError, IQPError, first_line
from ..image import IMAGE_SUFFIXES
from ..restorer import Restorer, Settings

output = Console()
errors = Console(stderr=True)
T = TypeVar("T")

FIDELITY_HELP = "0 = quality first, 1 = closest to the input; default: what the model is best run at."
ADAIN_HELP = "Match feature statistics to the input; default: as the model's authors do."


def report(kind: str, text: str) -> None:
    """Print an error; brackets in it are text, not markup."""
    errors.print(f"[bold red]{kind}:[/] {escape(text)}", highlight=False, soft_wrap=True)


def settle(restorer: Restorer, quality: float, fidelity: float | None, adain: bool | None) -> Settings:
    """The settings to run with; what had to give way is said."""
    settings = restorer.settings(quality, fidelity, adain)
    say(settings.notes)
    return settings


def say(notes: Iterable[str]) -> None:
    """What the user should know beside the result, each line once."""
    for note in dict.fromkeys(notes):
        errors.print(f"Note: {note}", highlight=False, soft_wrap=True, markup=False)


def choose_device(name: str) -> torch.device:
    """ "auto" is CUDA, then Apple's MPS, then the CPU; anything else must exist here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used here ({first_line(error)}). Try cpu, cuda or mps.") from None
    return device


def check_word(option: str, word: str, allowed: Collection[str]) -> None:
    """Raise InputError unless an option has one of the words it takes."""
    if word not in allowed:
        raise InputError(f"{option} takes one of {', '.join(allowed)}, got {word!r}.")


def collect_images(paths: Sequence[Path]) -> list[Path]:
    """Files as given, folders as the images directly in them; at least one."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        else:
            files.append(path)
    if not files:
        raise InputError(f"no images in {', '.join(map(str, paths))}; looked for {', '.join(IMAGE_SUFFIXES)}.")
    return files


def output_names(files: Sequence[Path], folder: Path) -> list[Path]:
    """`folder/<stem>.png` for each file, checked by `check_targets`."""
    return check_targets(files, [folder / f"{file.stem}.png" for file in files], folder)


def check_targets(files: Sequence[Path], targets: list[Path], folder: Path) -> list[Path]:
    """The targets, if `folder` can hold them; names that collide, or would overwrite an input, are refused before work starts."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; -o needs a folder.")
    taken: dict[Path, Path] = {}
    inputs = {file.resolve() for file in files}
    for file, target in zip(files, targets, strict=True):
        if target in taken:
            raise InputError(
                f"{taken[target]} and {file} would both be written to {target}. Restore them in two calls."
            )
        if target.resolve() in inputs:
            raise InputError(f"{target} would overwrite an input. Choose another output folder.")
        taken[target] = file
    return targets


def for_each(
    items: Iterable[T],
    total: int,
    task: str,
    work: Callable[[T], None],
    describe: Callable[[T], str],
) -> None:
    """Do `work` for every item with a progress bar. Failures are reported and the rest goes on; then exit code 2."""
    failures = 0
    for item in track(items, task, total, console=errors, transient=True, disable=not errors.is_terminal):
        try:
            work(item)
        except IQPError as error:
            failures += 1
            text, name = str(error), describe(item)
            report("Failed", text if name in text else f"{name}: {text}")
    if failures:
        errors.print(f"{failures} of {total} failed.", highlight=False)
        raise typer.Exit(2)
