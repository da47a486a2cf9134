"""No-reference quality metrics under one roof: scores in [0, 1], 1 = best, batched and differentiable.

`builtin` is a small network of ours whose weights are part of the package. All others come from pyiqa (PolyForm
Noncommercial licence, imported only when one is asked for), and their weights are downloaded only on request.
"""

import os
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from . import pyiqa_metrics
from .download import Progress
from .errors import CheckpointError
from .image import check_aspect, check_images
from .models.severity import RESOLUTION, SeverityNet
from .tensor_file import check_weights, read_safetensors

BUILTIN = "builtin"
# What can be offered without importing pyiqa (half a second): its metrics of single images, by name.
METRICS = (
    BUILTIN,
    "niqe",
    "ilniqe",
    "brisque",
    "piqe",
    "nrqm",
    "pi",
    "cnniqa",
    "musiq",
    "musiq-ava",
    "musiq-paq2piq",
    "musiq-spaq",
    "nima",
    "nima-koniq",
    "nima-spaq",
    "nima-vgg16-ava",
    "paq2piq",
    "dbcnn",
    "maniqa",
    "maniqa-pipal",
    "maniqa-kadid",
    "clipiqa",
    "clipiqa+",
    "clipiqa+_vitL14_512",
    "clipiqa+_rn50_512",
    "tres",
    "tres-flive",
    "hyperiqa",
    "metaiqa",
    "uranker",
    "entropy",
    "topiq_nr",
    "topiq_nr-flive",
    "topiq_nr-spaq",
    "topiq_nr-face",
    "topiq_nr-face-v1",
    "topiq_nr_swin-face",
    "topiq_iaa",
    "topiq_iaa_res50",
    "laion_aes",
    "liqe",
    "liqe_mix",
    "wadiqam_nr",
    "compare2score",
    "unique",
    "arniqa",
    "arniqa-clive",
    "arniqa-flive",
    "arniqa-spaq",
    "maclip",
    "qualiclip",
    "qualiclip+",
    "qualiclip+-clive",
    "qualiclip+-flive",
    "qualiclip+-spaq",
    "qalign",
    "afine_nr",
)
_PACKAGE = __name__.rpartition(".")[0]  # inside ComfyUI the package has another name
_BUILTIN_FILE = "severity.safetensors"


class Metric(Protocol):
    """A quality metric.

    Attributes:
        name: as given to `load_metric`.
        lower_better: direction of `raw`; scores of the metric itself always have 1 = best.
        score_range: (low, high) of `raw`, nominal.
    """

    name: str
    lower_better: bool
    score_range: tuple[float, float]

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B,) in [0, 1], 1 = best; gradients flow."""
        ...

    def raw(self, images: Tensor) -> Tensor:
        """The metric's own scale, (B,)."""
        ...

    def normalise(self, raw: Tensor) -> Tensor:
        """Values of `raw` to [0, 1], 1 = best."""
        ...

    def to(self, device: torch.device | str) -> "Metric": ...


class BuiltinMetric:
    """Our severity network; faces of other sizes are scored with their shorter side resized to 256 pixels."""

    name, lower_better, score_range = BUILTIN, False, (0.0, 1.0)

    def __init__(self, network: SeverityNet, device: torch.device | str = "cpu") -> None:
        self.network = network.eval().requires_grad_(False)
        self.device = torch.device(device)  # where it computes; weights that lie elsewhere come there as they are used

    def __call__(self, images: Tensor) -> Tensor:
        return self.normalise(self.raw(images))

    def normalise(self, raw: Tensor) -> Tensor:
        return raw

    def raw(self, images: Tensor) -> Tensor:
        check_aspect(check_images(images))
        images = images.to(device=self.device, dtype=torch.float32)
        shorter = min(images.shape[2:])
        if shorter != RESOLUTION:
            size = tuple(max(RESOLUTION, round(s * RESOLUTION / shorter)) for s in images.shape[2:])
            # Not clamped: a clamp would cut the gradient, and bicubic overshoot is harmless here.
            images = nn.functional.interpolate(images, size=size, mode="bicubic", antialias=True)
        return self.network(images)

    def to(self, device: torch.device | str) -> "BuiltinMetric":
        self.network.to(device)
        self.device = torch.device(device)
        return self


def list_metrics() -> tuple[str, ...]:
    """Names `load_metric` knows: the built-in one and pyiqa's no-reference metrics."""
    return (BUILTIN, *pyiqa_metrics.names())


def weights_folder() -> Path:
    """Where pyiqa keeps its weights: $TORCH_HOME/hub/pyiqa."""
    return Path(torch.hub.get_dir()) / "pyiqa"


def load_metric(
    name: str = BUILTIN,
    device: torch.device | str = "cpu",
    folder: str | os.PathLike[str] | None = None,
    download: bool = False,
    progress: Progress | None = None,
    operations: Any = nn,
) -> Metric:
    """Load a quality metric.

    Args:
        name: "builtin", or any pyiqa no-reference metric. The face variants of TOPIQ score aligned crops directly.
        device: where it runs.
        folder: where its weights are; default `weights_folder()`.
        download: whether missing weights may be downloaded into that folder.
        progress: told how far a download is; see `download.fetch`.
        operations: namespace with the layer classes of the built-in metric, such as torch.nn.

    Raises:
        MetricError: no such metric, or one that cannot be built here.
        MissingPackageError: a metric other than the built-in one without pyiqa.
        WeightsNotFoundError: weights are missing and `download` is off; names file, folder and address.
    """
    if name == BUILTIN:
        with as_file(files(_PACKAGE) / "weights" / _BUILTIN_FILE) as path:
            return BuiltinMetric(load_severity(path, operations)).to(device)
    return pyiqa_metrics.load(name, Path(folder) if folder else weights_folder(), download, progress).to(device)


def load_severity(path: str | os.PathLike[str], operations: Any = nn) -> SeverityNet:
    """The built-in metric's network from a file written by `iqpbfr train metric`."""
    network = SeverityNet(operations)
    weights, _ = read_safetensors(path)
    try:
        check_weights(network.state_dict(), weights, "a built-in metric")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    return network
