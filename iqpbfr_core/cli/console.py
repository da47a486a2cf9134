"""What the commands share: consoles, the choice of device, and files worked through one after the other."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import torch
import typer
from rich.console import Console
from rich.progress import Progress, track
from rich.text import Text

from ..adapters import load_adapter
from ..errors import InputError, IQPError, first_line
from ..image import IMAGE_SUFFIXES
from ..restorer import Restorer, Settings, load_restorer

# File names are printed as they are: nothing in them is markup, an emoji, a colour or a place to break the line.
output = Console(markup=False, emoji=False)
errors = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, stderr=True)
T = TypeVar("T")

MAX_SEED = 2**32 - 1  # what every random generator here takes
FIDELITY_HELP = "0 = quality first, 1 = closest to the input; default: what the model is best run at."
ADAPTER_HELP = "Score adapter: gives a model that was trained without a score a quality (.safetensors)."
ADAIN_HELP = "Match feature statistics to the input; default: as the model's authors do."


def report(kind: str, text: str) -> None:
    """Print an error."""
    errors.print(Text(f"{kind}:", style="bold red"), text)


def load_model(
    model: str, adapter: Path | None, device: torch.device, dtype: torch.dtype | Literal["auto"] = torch.float32
) -> Restorer:
    """A restorer, with a score adapter where one was given; see `load_restorer`."""
    restorer = load_restorer(model, device, dtype)
    return restorer if adapter is None else load_adapter(adapter, restorer).attach(restorer)


def settle(restorer: Restorer, quality: float, fidelity: float | None, adain: bool | None) -> Settings:
    """The settings to run with; what had to give way is said."""
    settings = restorer.settings(quality, fidelity, adain)
    say(settings.notes)
    return settings


def say(notes: Iterable[str]) -> None:
    """What the user should know beside the result, each line once."""
    for note in dict.fromkeys(notes):
        errors.print(f"Note: {note}")


def choose_device(name: str) -> torch.device:
    """ "auto" is CUDA, then Apple's MPS, then the CPU; anything else must exist here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # every backend has a way of its own to be missing
        raise InputError(f"device {name!r} cannot be used here ({first_line(error)}). Try cpu, cuda or mps.") from None
    return device


def check_word(option: str, word: str, allowed: Collection[str]) -> None:
    """Raise InputError unless an option has one of the words it takes."""
    if word not in allowed:
        raise InputError(f"{option} takes one of {', '.join(allowed)}, got {word!r}.")


def refuse_options(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Raise InputError if one of these options was given, by its parameter's name."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise InputError(f"{parameter.opts[0]} {why}; leave it out.")


def collect_images(paths: Sequence[Path]) -> list[Path]:
    """Files as given, folders as the images directly in them; at least one."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
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
    check_overwriting(files, targets)
    taken: dict[Path, Path] = {}
    for file, target in zip(files, targets, strict=True):
        if target in taken:
            raise InputError(
                f"{taken[target]} and {file} would both be written to {target}. Restore them in two calls."
            )
        taken[target] = file
    return targets


def check_overwriting(files: Iterable[Path], targets: Iterable[Path]) -> None:
    """Raise InputError if one of `targets` is one of the input `files`."""
    inputs = {_identity(file) for file in files}
    for target in targets:
        if _identity(target) in inputs:
            raise InputError(f"{target} would overwrite an input. Choose another output.")


def _identity(path: Path) -> object:
    """Equal for two names of one file, whatever links or letter case make of them."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


@contextmanager
def told_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for work of several parts: call with what is being done, how much of it is, and of how much."""
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(bar, description=what, completed=done, total=total)


def for_each(
    items: Iterable[T],
    total: int,
    task: str,
    work: Callable[[T], None],
    describe: Callable[[T], str],
    bar: bool = True,
) -> None:
    """Do `work` for every item with a progress bar, unless the work shows its own (`bar`).

    Files that fail are reported and the rest goes on; then exit code 1.
    What cannot be read or written, or does not fit into the memory, is the file's fault; other exceptions are ours.
    """
    failures = 0
    for item in track(items, task, total, console=errors, transient=True, disable=not (bar and errors.is_terminal)):
        try:
            work(item)
        except (IQPError, OSError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
                raise
            failures += 1
            text, name = str(error) if isinstance(error, IQPError) else first_line(error), describe(item)
            report("Failed", text if name in text else f"{name}: {text}")
    if failures:
        errors.print(f"{failures} of {total} failed.")
        raise typer.Exit(1)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
