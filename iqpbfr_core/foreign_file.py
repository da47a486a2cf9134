"""The tensors of checkpoints that hold more than tensors, such as Lightning's with callbacks and hyperparameters.

A pickle can name any function and call it. Here nothing it names is looked up: the few names that stand for tensors and
dictionaries mean what is written below, and every other one is a thing that does nothing.
"""

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Nothing:
    """What every other name in a file means: it can be made, called, filled and restored, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_Nothing":
        return object.__new__(cls)

    def _ignore(self, *_: Any, **__: Any) -> None:
        pass

    __init__ = __setstate__ = __setitem__ = __call__ = append = extend = add = update = _ignore


class _Dict(dict[Any, Any]):
    """A dictionary that takes no attributes."""

    def __setstate__(self, _: Any) -> None:
        pass


@dataclass(frozen=True)
class _Stored:
    """A tensor that is not read yet."""

    dtype: torch.dtype
    record: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Stored:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, tuple) or not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor without a place in the file")
    dtype, record = storage
    return _Stored(dtype, record, offset, tuple(size), tuple(stride))


_MEANINGS = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Unpickler(pickle._Unpickler):  # the one in C makes room for as many objects as a file says it has
    def find_class(self, module: str, name: str) -> Any:
        return _MEANINGS.get((module, name), _Nothing)

    def persistent_load(self, pid: Any) -> tuple[torch.dtype, str]:
        kind, dtype, record, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not str(record).isdecimal():
            raise pickle.UnpicklingError("a storage of unknown kind")
        return dtype, str(record)


def read_tensors(path: Path) -> dict[str, Tensor | dict[str, Tensor]]:
    """The tensors in the dictionary that a checkpoint is, and in the dictionaries it holds; all else is left out.

    Args:
        path: an archive as `torch.save` writes it, whose size was found sound.

    Raises:
        pickle.UnpicklingError and whatever else broken bytes cause.
    """
    with zipfile.ZipFile(path) as archive:
        (described,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = described.removesuffix(".pkl")
        with archive.open(described) as file:
            content = _Unpickler(file).load()
        records: dict[str, bytearray] = {}

        def read(stored: _Stored) -> Tensor:
            if stored.record not in records:
                records[stored.record] = bytearray(archive.read(f"{folder}/{stored.record}"))
            numbers = torch.frombuffer(records[stored.record], dtype=stored.dtype)
            return torch.as_strided(numbers, stored.size, stored.stride, stored.offset)

        def tensors(values: Any) -> dict[str, Tensor]:
            return {k: read(v) for k, v in values.items() if isinstance(k, str) and isinstance(v, _Stored)}

        if not isinstance(content, dict):
            return {}
        inner = {k: tensors(v) for k, v in content.items() if isinstance(k, str) and isinstance(v, dict)}
        return {**tensors(content), **{name: values for name, values in inner.items() if values}}
