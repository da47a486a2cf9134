"""Weight files: read any supported one safely, find out what it is, write our own.

A file is opened as data only (safetensors, or torch with `weights_only=True`), so no code inside it can run. The
family and every hyperparameter come from key names and shapes; a `.safetensors` file written here also carries its
config, which then has to agree with the shapes.
"""

import os
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from . import strangers
from .config import RestorerConfig
from .errors import CheckpointError, WeightsNotFoundError, first_line
from .image import write_atomically
from .models import code_restorer, daefr, gfpgan, restoreformer, stage_one, vqfr_v1, vqfr_v2
from .models.family import Family, Network
from .models.onnx_restorer import OnnxRestorer
from .tensor_file import check_indices, check_weights, list_names, read_safetensors, read_torch_file

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")  # of files of tensors
RESTORER_SUFFIXES = (*SUFFIXES, ".onnx")
BUILTIN = "builtin"
_PACKAGE = __name__.rpartition(".")[0]  # inside ComfyUI the package has another name
_BUILTIN_FILE = "small.safetensors"
# Containers in the order in which they are looked for: averaged weights first.
_CONTAINERS = ("params_ema", "params", "state_dict", "model")
# In the order in which they are tried.
FAMILIES = (
    code_restorer.FAMILY,
    restoreformer.FAMILY,
    daefr.FAMILY,
    vqfr_v1.FAMILY,
    vqfr_v2.FAMILY,
    gfpgan.FAMILY,
    stage_one.FAMILY,
)

StateDict = dict[str, Tensor]


def read_weights(path: str | os.PathLike[str]) -> tuple[StateDict, dict[str, str]]:
    """Read a file's tensors, unwrapped from their container, and its metadata ({} where the format has none).

    Raises:
        WeightsNotFoundError: there is no such file.
        CheckpointError: truncated, foreign, or holding anything but tensors.
    """
    file = _existing(path)
    if file.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{file}: weight files end in {', '.join(SUFFIXES)}, this one in {file.suffix!r}.")
    if words := strangers.by_beginning(file):
        raise CheckpointError(f"{file}: {words}.")
    if file.suffix.lower() == ".safetensors":
        return read_safetensors(file)
    return _unwrap(read_torch_file(file), file), {}


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if not file.is_file():
        raise WeightsNotFoundError(
            f"{file}: no such weight file. Give a path to one of {', '.join(RESTORER_SUFFIXES)}, or {BUILTIN!r}."
        )
    return file


def _unwrap(content: Any, file: Path) -> StateDict:
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, not a dictionary of weights.")
    weights = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(f"{file}: holds no tensors; its keys are {list_names(content)}.")
    return weights


def find_family(weights: StateDict) -> tuple[Family, StateDict]:
    """The family a state dict belongs to, and its tensors under that family's names.

    Lightning files keep a network below `vqvae.`, DDP files below `module.`; losses of a training are left out.

    Raises:
        CheckpointError: no supported family has such keys; the message says what was looked for.
    """
    for prefix in ("", "vqvae.", "module."):
        named = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        named = {k: v for k, v in named.items() if not k.startswith("loss.")}
        for family in FAMILIES:
            if all(key in named for key in family.keys):
                return family, named
    if words := strangers.by_tensors(weights):
        raise CheckpointError(f"{words}.")
    wanted = "; ".join(f"{', '.join(family.names)} ({', '.join(family.keys)})" for family in FAMILIES)
    raise CheckpointError(
        f"no supported family has these keys. The file has {len(weights)} tensors: {list_names(weights)}. Tried: {wanted}."
    )


def infer_config(weights: StateDict) -> RestorerConfig:
    """The architecture a state dict belongs to, from names and shapes alone.

    Raises:
        CheckpointError: no supported family has such keys, or they do not fit it.
    """
    check_indices(weights)
    family, weights = find_family(weights)
    try:
        return family.read_config(weights)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"the keys look like {family.names[0]} but do not fit it: {error!r}.") from error


def build_network(config: RestorerConfig, operations: Any = nn) -> Network:
    """The network of `config` with untrained weights."""
    for family in FAMILIES:
        if config.family in family.names:
            return family.build(config, operations)
    names = ", ".join(name for family in FAMILIES for name in family.names)
    raise CheckpointError(f"unknown family {config.family!r}; supported are {names}.")


def load_network(source: str | os.PathLike[str], operations: Any = nn) -> Network:
    """Network and weights from a file, or from the package for "builtin"; see `load_restorer`."""
    if source == BUILTIN:
        with as_file(files(_PACKAGE) / "weights" / _BUILTIN_FILE) as path:
            return load_network(path, operations)
    if Path(source).suffix.lower() == ".onnx":
        try:
            return OnnxRestorer(_existing(source))
        except CheckpointError as error:
            raise type(error)(f"{source}: {error}") from error
    weights, metadata = read_weights(source)
    try:
        _, weights = find_family(weights)
        config = RestorerConfig.from_json(metadata["config"]) if "config" in metadata else infer_config(weights)
        network = _build_empty(config, len(weights), operations)
        what = f"{config.family} ({config.resolution} px, {config.num_codes} codes)"
        check_weights(network.state_dict(), weights, what)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    network.load_state_dict(weights, assign=True)
    return network


def _build_empty(config: RestorerConfig, num_tensors: int, operations: Any) -> Network:
    """The network a file's config speaks of, without memory; refused if it cannot be or is more than the file holds."""
    if config.num_blocks > num_tensors:
        raise CheckpointError(f"the config speaks of {config.num_blocks} blocks, the file has {num_tensors} tensors.")
    try:
        with torch.device("meta"):
            return build_network(config, operations)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"there is no network of this config ({first_line(error)}).") from error


def save_network(network: nn.Module, path: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
    """Write weights and config to a `.safetensors` file; `dtype` converts floating point weights."""
    if Path(path).suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path}: weights are written as .safetensors, choose such a name.")
    if isinstance(network, OnnxRestorer):
        raise CheckpointError("an ONNX file has no weights under names a network knows; it cannot be converted.")
    config: RestorerConfig = network.config  # type: ignore[assignment]
    weights = {
        key: value.detach().cpu().to(dtype if value.is_floating_point() and dtype else value.dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    write_atomically(path, save(weights, metadata={"config": config.to_json()}))
