"""Files of tensors, read as data: no code in them runs, and refusing one costs no more than its size.

What a file says of itself is measured before it is believed: how large it unpacks, how many tensors it names, and, once
a network is to take the weights, whether they have its names, shapes and kind, and are numbers.
"""

import math
import os
import pickle
import pickletools
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from .errors import CheckpointError, first_line
from .foreign_file import read_tensors

# Of what describes the tensors, in bytes: room for 20,000 of them. A byte of pickle can become 64 in memory.
MAX_DESCRIPTION = 4 * 2**20
_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SHOWN = 6


def read_torch_file(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Any:
    """What `torch.save` wrote into `path`: tensors, numbers, strings and containers of them.

    Of a file that holds anything else, too, such as Lightning's, only the tensors are read.

    Raises:
        CheckpointError: the file is truncated or foreign, holds no tensors, or describes more than it can hold.
    """
    try:
        _check_size(Path(path))
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except pickle.UnpicklingError:
            if not (zipfile.is_zipfile(path) and (tensors := read_tensors(Path(path)))):
                raise
            return tensors
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds no tensors but other things, or is no torch file; they are not opened, since such a file can "
            f"run any code. ({first_line(error)})"
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # torch parses bytes of anybody's making here, and every kind of error was seen
        raise CheckpointError(f"{path}: truncated or not a torch file ({first_line(error)}).") from error


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    with open(path, "rb") as file:
        if file.read(4) != b"PK\3\4":  # where torch looks, too: its older format is pickles, then the numbers
            file.seek(0)
            _check_pickle(path, file)
            return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    unpacked = sum(part.file_size for part in parts)
    if unpacked > size:  # torch does not compress
        raise CheckpointError(f"{path}: {size:,} bytes that would unpack to {unpacked:,}; torch writes no such file.")
    described = max((part.file_size for part in parts if part.filename.endswith("data.pkl")), default=0)
    _check_description(path, described)


def _check_pickle(path: Path, file: IO[bytes]) -> None:
    """Raise unless the pickle with the tensors' names, the fourth of those an old file begins with, ends in time."""
    for _ in range(4):
        for _, _, position in pickletools.genops(file):
            _check_description(path, position or 0)


def _check_description(path: Path, num_bytes: int) -> None:
    if num_bytes > MAX_DESCRIPTION:
        raise CheckpointError(
            f"{path}: describes its tensors in {num_bytes:,} bytes; restorers need less than {MAX_DESCRIPTION:,}."
        )


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a `.safetensors` file. Raises CheckpointError if it is truncated or foreign."""
    try:
        with open(path, "rb") as file:
            _check_description(Path(path), int.from_bytes(file.read(8), "little"))
        with safetensors.safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
        return load_file(path), metadata
    except CheckpointError:
        raise
    except Exception as error:  # as above
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({first_line(error)}). Is the download complete?"
        ) from error


def check_indices(names: Iterable[str]) -> None:
    """Raise CheckpointError if a name counts where no network's layers go, as `layers.999999999.bias` does."""
    counted = [name for name in names if any(part.isdecimal() and len(part) > 4 for part in name.split("."))]
    if counted:
        raise CheckpointError(f"no network has as many layers as these names count: {list_names(counted)}.")


def check_weights(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], what: str) -> None:
    """Raise CheckpointError unless `weights` are what a network needs, named `what` in the message.

    Args:
        expected: the network's own state dict; only names, shapes and kinds of numbers are looked at.
        weights: what is to be loaded. Floating point numbers may be of any precision, but must be finite.
    """
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    common = [name for name in expected if name in weights]
    wrong = [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in common
        if weights[name].shape != expected[name].shape
    ]
    if missing or unexpected or wrong:
        raise CheckpointError(
            f"looks like {what} but does not fit: {len(missing)} missing ({list_names(missing)}), "
            f"{len(unexpected)} unexpected ({list_names(unexpected)}), {len(wrong)} of another shape ({list_names(wrong)})."
        )
    foreign = [
        f"{name} is {str(weights[name].dtype).removeprefix('torch.')}, {str(weights[name].layout).removeprefix('torch.')}"
        for name in common
        if not _is_plain(weights[name]) or (weights[name].dtype in _NUMBERS) != expected[name].is_floating_point()
    ]
    if foreign:
        raise CheckpointError(f"weights must be plain 16, 32 or 64 bit floating point numbers; {list_names(foreign)}.")
    storages = (weights[name].untyped_storage() for name in common)
    held = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    if (wanted := sum(weights[name].nbytes for name in common)) > 2 * held:  # the same numbers under two names: fair
        raise CheckpointError(f"the tensors speak of {wanted:,} bytes, the file holds {held:,} for them.")
    broken = [name for name in common if weights[name].is_floating_point() and not _is_finite(weights[name])]
    if broken:
        raise CheckpointError(
            f"{len(broken)} of {len(common)} tensors hold NaN or infinity ({list_names(broken)}): a training run that "
            "fell apart, or a broken conversion to half precision. Get the file anew."
        )


def _is_plain(values: Tensor) -> bool:
    """Dense numbers in memory, neither sparse nor quantised nor a shape without content."""
    return values.layout is torch.strided and not values.is_quantized and not values.is_meta


def _is_finite(values: Tensor) -> bool:
    """In one pass without a copy: NaN and infinity show in the extremes."""
    return values.numel() == 0 or all(math.isfinite(bound.item()) for bound in values.aminmax())


def list_names(names: Iterable[str]) -> str:
    """The first few names, for a message; those from a file may be of any length and hold anything."""
    names = list(names)
    shown = [name if name.isprintable() else repr(name) for name in (str(name)[:100] for name in names[:_SHOWN])]
    return (", ".join(shown) or "none") + (f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
