"""torch's own files (`.pth`, `.pt`, `.ckpt`), read as data: no code in them runs, and none of them costs more than its size."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointError, first_line


def read_torch_file(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Any:
    """What `torch.save` wrote into `path`: tensors, numbers, strings and containers of them.

    Raises:
        CheckpointError: the file is truncated or foreign, holds anything else, or would unpack to more than it is.
    """
    _check_archive(Path(path))
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than plain tensors, or is no torch file; it is not opened, since such a file can run "
            f"any code. Save its state dict alone. ({first_line(error)})"
        ) from error
    except Exception as error:  # torch parses bytes of anybody's making here, and every kind of error was seen
        raise CheckpointError(f"{path}: truncated or not a torch file ({first_line(error)}).") from error


def _check_archive(path: Path) -> None:
    """torch stores without compressing, so the parts of its archives are never larger than the whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # no archive: an old file of torch's, or none at all, which torch will say
    if unpacked > (size := path.stat().st_size):
        raise CheckpointError(
            f"{path}: would unpack from {size:,} to {unpacked:,} bytes, which no file of torch's does; it is not opened."
        )
