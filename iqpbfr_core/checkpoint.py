"""Weight files: read any supported one safely, find out what it is, write our own.

A file is opened as data only (safetensors, or torch with `weights_only=True`), so no code inside it can run. The
family and every hyperparameter come from key names and shapes; a `.safetensors` file written here also carries its
config, which then has to agree with the shapes.
"""

import os
import re
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from .config import RestorerConfig
from .errors import CheckpointError, WeightsNotFoundError
from .image import write_atomically
from .models.code_restorer import CodeRestorer
from .models.restoreformer import RestoreFormer
from .torch_file import read_torch_file

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
BUILTIN = "builtin"
_PACKAGE = __name__.rpartition(".")[0]  # inside ComfyUI the package has another name
_BUILTIN_FILE = "small.safetensors"
# Containers in the order in which they are looked for: averaged weights first.
_CONTAINERS = ("params_ema", "params", "state_dict", "model")
_SHOWN = 6

StateDict = dict[str, Tensor]


def read_weights(path: str | os.PathLike[str]) -> tuple[StateDict, dict[str, str]]:
    """Read a file's tensors, unwrapped from their container, and its metadata ({} where the format has none).

    Raises:
        WeightsNotFoundError: there is no such file.
        CheckpointError: truncated, foreign, or holding anything but tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsNotFoundError(
            f"{file}: no such weight file. Give a path to one of {', '.join(SUFFIXES)}, or {BUILTIN!r}."
        )
    if file.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{file}: weight files end in {', '.join(SUFFIXES)}, this one in {file.suffix!r}.")
    if file.suffix.lower() == ".safetensors":
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
            return load_file(file), metadata
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file}: not a readable safetensors file ({error}). Is the download complete?"
            ) from error
    return _unwrap(read_torch_file(file), file), {}


def _unwrap(content: Any, file: Path) -> StateDict:
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, not a dictionary of weights.")
    weights = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not weights:
        raise CheckpointError(f"{file}: holds no tensors; its keys are {_list(map(str, content))}.")
    return weights


def _without_prefix(weights: StateDict) -> StateDict:
    """Lightning files: keep the network below `vqvae.`; DDP files: drop `module.`. Training losses are left out."""
    for prefix in ("vqvae.", "module."):
        if any(key.startswith(prefix) for key in weights):
            return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return {k: v for k, v in weights.items() if not k.startswith("loss.")}


def infer_config(weights: StateDict) -> RestorerConfig:
    """The architecture a state dict belongs to, from names and shapes alone.

    Raises:
        CheckpointError: no supported family has such keys; the message says what was looked for.
    """
    for matches, read in ((_is_code_restorer, _read_code_restorer), (_is_restoreformer, _read_restoreformer)):
        if matches(weights):
            try:
                return read(weights)
            except (KeyError, IndexError, ValueError) as error:
                raise CheckpointError(f"the keys look like a known family but do not fit it: {error!r}.") from error
    raise CheckpointError(
        "no supported family has these keys. Tried: codeformer, iqpir and iqpbfr (need encoder.blocks.0.weight, "
        "idx_pred_layer.1.weight, quantize.embedding.weight), restoreformer and restoreformer_plus_plus (need "
        f"encoder.conv_in.weight, decoder.conv_in.weight, quant_conv.weight). The file has {len(weights)} tensors: {_list(weights)}."
    )


def _is_code_restorer(weights: StateDict) -> bool:
    wanted = ("encoder.blocks.0.weight", "idx_pred_layer.1.weight", "quantize.embedding.weight", "position_emb")
    return all(key in weights for key in wanted)


def _is_restoreformer(weights: StateDict) -> bool:
    wanted = ("encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight", "quantize.embedding.weight")
    return all(key in weights for key in wanted)


def _levels(weights: StateDict, prefix: str) -> tuple[list[int], list[int]]:
    """Widths and residual depths per level of a flat list of blocks, in the order in which they run.

    Blocks are told apart by their parameters: `conv1` residual, `conv` a change of resolution, `q` attention.
    """
    count = 1 + max(int(m[1]) for key in weights if (m := re.match(rf"{re.escape(prefix)}\.(\d+)\.", key)))
    widths, depths = [], []
    depth, width = 0, len(weights[f"{prefix}.0.weight"])
    for index in range(count):
        block = f"{prefix}.{index}"
        if f"{block}.conv1.weight" in weights:
            depth, width = depth + 1, len(weights[f"{block}.conv1.weight"])
        elif f"{block}.conv.weight" in weights:
            widths, depths = [*widths, width], [*depths, depth]
            depth = 0
    return [*widths, width], [*depths, depth]


def _read_code_restorer(weights: StateDict) -> RestorerConfig:
    _, encoder_depths = _levels(weights, "encoder.blocks")
    encoder_depths[-1] -= 2  # the two residual blocks around the middle attention
    widths, generator_depths = _levels(weights, "generator.blocks")
    generator_depths[0] -= 2
    last = max(int(key.split(".")[2]) for key in weights if key.startswith("generator.blocks."))
    head = _root(len(weights[f"generator.blocks.{last}.weight"]) / 3)
    stem = _root(weights["encoder.blocks.0.weight"].shape[1] / 3)
    num_tokens, lookup_dim = weights["position_emb"].shape
    resolution = _root(num_tokens) * 2 ** (len(widths) - 1) * head
    conditioning, score_bins = _read_conditioning(weights)
    num_codes, code_dim = weights["quantize.embedding.weight"].shape
    hq = weights.get("quantize_aesthetic.embedding.weight")
    published = conditioning != "adaln" and stem == head == 1
    is_plain = hq is None and conditioning == "none"
    return RestorerConfig(
        family="iqpbfr" if not published else "codeformer" if is_plain else "iqpir",
        resolution=resolution,
        stem=stem,
        head=head,
        widths=tuple(reversed(widths)),
        encoder_depths=tuple(encoder_depths),
        generator_depths=tuple(reversed(generator_depths)),
        code_dim=code_dim,
        num_codes=num_codes,
        num_hq_codes=0 if hq is None else len(hq),
        conditioning=conditioning,
        score_bins=score_bins,
        lookup_dim=lookup_dim,
        lookup_layers=1 + max((int(k.split(".")[1]) for k in weights if k.startswith("ft_layers.")), default=-1),
        lookup_mlp_dim=len(weights["ft_layers.0.linear1.weight"]),
        fusion=tuple(sorted({int(k.split(".")[1]) for k in weights if k.startswith("fuse_convs_dict.")})),
        alpha=0.8 if published else 1.0,  # not in the file: what each family was trained with
    )


def _read_conditioning(weights: StateDict) -> tuple[str, tuple[int, ...]]:
    if "score_embed.null" in weights:
        return "adaln", ()
    if "score_embed.weight" in weights:
        if "ft_layers.0.adaLN_modulation.1.weight" in weights:
            raise ValueError("IQPIR's 'adain' score mode (ft_layers.*.adaLN_modulation) is not supported")
        return "add", (len(weights["score_embed.weight"]),)
    tables = sorted(int(k.split(".")[1]) for k in weights if re.fullmatch(r"score_embed\.\d+\.weight", k))
    if tables:
        return "add_multi", tuple(len(weights[f"score_embed.{i}.weight"]) for i in tables)
    return "none", ()


def _read_restoreformer(weights: StateDict) -> RestorerConfig:
    def dims(prefix: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        levels = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith(f"{prefix}."))
        widths = tuple(len(weights[f"{prefix}.{i}.block.0.conv1.weight"]) for i in range(levels))
        depths = tuple(
            1 + max(int(k.split(".")[4]) for k in weights if k.startswith(f"{prefix}.{i}.block."))
            for i in range(levels)
        )
        return widths, depths

    widths, encoder_depths = dims("encoder.down")
    _, generator_depths = dims("decoder.up")
    num_codes, code_dim = weights["quantize.embedding.weight"].shape
    is_plus_plus = f"decoder.up.{len(widths) - 2}.attn.0.q.weight" in weights
    return RestorerConfig(
        family="restoreformer_plus_plus" if is_plus_plus else "restoreformer",
        resolution=16 * 2 ** (len(widths) - 1),  # attention everywhere in these models means 16 x 16 tokens
        widths=widths,
        encoder_depths=encoder_depths,
        generator_depths=generator_depths,
        code_dim=code_dim,
        num_codes=num_codes,
        fusion=(),
        lookup_layers=0,
        attention_heads=4 if is_plus_plus else 8,  # not in the file: the authors' configurations
    )


def _root(number: float) -> int:
    root = round(number**0.5)
    if root * root != number:
        raise ValueError(f"{number} is not a square number")
    return root


def build_network(config: RestorerConfig, operations: Any = nn) -> CodeRestorer | RestoreFormer:
    """The network of `config` with untrained weights."""
    architecture = RestoreFormer if config.family.startswith("restoreformer") else CodeRestorer
    return architecture(config, operations)


def load_network(source: str | os.PathLike[str], operations: Any = nn) -> CodeRestorer | RestoreFormer:
    """Network and weights from a file, or from the package for "builtin"; see `load_restorer`."""
    if source == BUILTIN:
        with as_file(files(_PACKAGE) / "weights" / _BUILTIN_FILE) as path:
            return load_network(path, operations)
    weights, metadata = read_weights(source)
    weights = _without_prefix(weights)
    try:
        config = RestorerConfig.from_json(metadata["config"]) if "config" in metadata else infer_config(weights)
        with torch.device("meta"):
            network = build_network(config, operations)
        _check_fit(network.state_dict(), weights, config)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    network.load_state_dict(weights, assign=True)
    return network


def _check_fit(expected: Mapping[str, Tensor], weights: StateDict, config: RestorerConfig) -> None:
    missing = [k for k in expected if k not in weights]
    unexpected = [k for k in weights if k not in expected]
    wrong = [
        f"{k} is {tuple(weights[k].shape)}, expected {tuple(v.shape)}"
        for k, v in expected.items()
        if k in weights and weights[k].shape != v.shape
    ]
    if missing or unexpected or wrong:
        raise CheckpointError(
            f"looks like {config.family} ({config.resolution} px, {config.num_codes} codes) but does not fit: "
            f"{len(missing)} missing ({_list(missing)}), {len(unexpected)} unexpected ({_list(unexpected)}), "
            f"{len(wrong)} of another shape ({_list(wrong)})."
        )


def _list(names: Any) -> str:
    names = list(names)
    rest = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + rest


def save_network(network: nn.Module, path: str | os.PathLike[str], dtype: torch.dtype | None = None) -> None:
    """Write weights and config to a `.safetensors` file; `dtype` converts floating point weights."""
    if Path(path).suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path}: weights are written as .safetensors, choose such a name.")
    config: RestorerConfig = network.config  # type: ignore[assignment]
    weights = {
        key: value.detach().cpu().to(dtype if value.is_floating_point() and dtype else value.dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    write_atomically(path, save(weights, metadata={"config": config.to_json()}))
