"""iqpbfr doctor"""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import typer
from rich.table import Table

from .. import __version__
from ..catalogue import MODELS
from ..extras import EXTRAS, install_command
from .console import output


def doctor(
    models: Path = typer.Option(Path("models"), "--models", help="Folder of all models, such as ComfyUI/models."),
) -> None:
    """Say what is installed here, what is missing, and which published models lie where: for a report of a problem."""
    output.print(f"iqp-face-restoration {__version__}, Python {platform.python_version()}, {platform.platform()}")
    output.print(f"{sys.executable}\ntorch {torch.__version__}, runs on: {', '.join(_devices())}", soft_wrap=True)
    packages = Table("extra", "package", "installed")
    for extra, wanted in EXTRAS.items():
        for package in wanted:
            name = package.split(">=")[0]
            packages.add_row(extra, package, _installed(name) or "no")
    output.print(packages)
    for extra, wanted in EXTRAS.items():
        if not all(_installed(package.split(">=")[0]) for package in wanted):
            output.print(f"for {extra}: {install_command(*wanted)}", soft_wrap=True)
    files = Table("model", "file", "found")
    for model in MODELS:
        path = models / model.folder / model.file.name
        files.add_row(model.name, str(path), f"{path.stat().st_size / 1e6:.0f} MB" if path.is_file() else "no")
    output.print(files)


def _devices() -> list[str]:
    """What torch can compute on, the best first."""
    names = ["cpu"]
    if torch.backends.mps.is_available():
        names.insert(0, "mps")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        names.insert(0, f"cuda ({torch.cuda.get_device_name()}, {memory:.0f} GiB)")
    return names


def _installed(name: str) -> str:
    """The version of a package, or ""."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
