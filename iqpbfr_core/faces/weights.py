"""Weight files of facexlib's networks: where they are looked for, how a missing one is fetched on request, how they load."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ..checkpoint import StateDict
from ..download import Progress, WeightFile, fetch
from ..errors import CheckpointError, WeightsNotFoundError

N = TypeVar("N", bound=nn.Module)

_BATCH_COUNT = "num_batches_tracked"
_RELEASES = "https://github.com/xinntao/facexlib/releases/download"

RETINAFACE_RESNET50 = WeightFile(
    "detection_Resnet50_Final.pth",
    f"{_RELEASES}/v0.1.0/detection_Resnet50_Final.pth",
    109_497_761,
    "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
)
RETINAFACE_MOBILE = WeightFile(
    "detection_mobilenet0.25_Final.pth",
    f"{_RELEASES}/v0.1.0/detection_mobilenet0.25_Final.pth",
    1_789_735,
    "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
)
PARSENET = WeightFile(
    "parsing_parsenet.pth",
    f"{_RELEASES}/v0.2.2/parsing_parsenet.pth",
    85_331_193,
    "3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
)

FAN = WeightFile("alignment_WFLW_4HG.pth", f"{_RELEASES}/v0.1.0/alignment_WFLW_4HG.pth")  # 98 landmarks


def default_folder() -> Path:
    """Where downloads go when no folder is named: $TORCH_HOME/hub/facexlib."""
    return Path(torch.hub.get_dir()) / "facexlib"


def locate(
    file: WeightFile,
    folder: str | os.PathLike[str] | None,
    download: bool,
    progress: Progress | None = None,
) -> Path:
    """The path of a weight file.

    Args:
        file: which one.
        folder: where it is; None looks in facexlib's own folder and in `default_folder()`.
        download: whether a missing one may be fetched into `folder` (`default_folder()` when None).
        progress: see `download.fetch`, which also names what it raises.

    Raises:
        WeightsNotFoundError: it is missing and may not be, or could not be, downloaded.
    """
    folders = [Path(folder)] if folder is not None else [*_facexlib_folders(), default_folder()]
    for candidate in folders:
        if (candidate / file.name).is_file():
            return candidate / file.name
    if not download:
        raise WeightsNotFoundError(
            f"{file.name} is not in {' or '.join(map(str, folders))}. Download {file.url} "
            f"({file.num_bytes / 1e6:.0f} MB) into that folder, name the folder where you have it "
            "(folder=..., --model-dir), or allow the download (download=True, --download)."
        )
    return fetch(file, folders[-1], progress)


def _facexlib_folders() -> list[Path]:
    """The folder facexlib itself downloads to, found without importing it."""
    spec = find_spec("facexlib")
    return [Path(place) / "weights" for place in spec.submodule_search_locations or []] if spec else []


def load_strictly(build: Callable[[], N], weights: StateDict, name: str) -> N:
    """The network that `build` makes, with these weights in float32.

    Raises CheckpointError naming what is missing, left over or of another shape. How many batches a normalisation has
    seen does not matter and may be absent.
    """
    with torch.device("meta"):
        network = build()
    expected = {k: v for k, v in network.state_dict().items() if not k.endswith(_BATCH_COUNT)}
    given = {k: v for k, v in weights.items() if not k.endswith(_BATCH_COUNT)}
    faults = {
        "missing": [k for k in expected if k not in given],
        "unexpected": [k for k in given if k not in expected],
        "of another shape": [k for k in expected if k in given and given[k].shape != expected[k].shape],
    }
    if any(faults.values()):
        found = "; ".join(f"{len(keys)} {what} ({', '.join(keys[:3])})" for what, keys in faults.items() if keys)
        raise CheckpointError(f"does not hold the weights of {name}: {found}. Is it the right file?")
    network.load_state_dict({key: value.float() for key, value in given.items()}, assign=True)
    return network
