"""No-reference quality metrics under one roof: scores in [0, 1], 1 = best, batched and differentiable.

`builtin` is a small network of ours whose weights are part of the package. All others come from pyiqa (PolyForm
Noncommercial licence, imported only when one is asked for), and their weights are downloaded only on request.
"""

import contextlib
import functools
import io
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import MetricError, WeightsNotFoundError, first_line
from .image import check_images
from .models.severity import RESOLUTION, SeverityNet

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
# TOPIQ trained on faces, for aligned crops: pyiqa's own wrapper detects faces first, which is slow and has no gradient.
_ALIGNED_TOPIQ = {
    "topiq_nr-face": "topiq_nr_cgfiqa_res50-0a8b8e4f.pth",
    "topiq_nr-face-v1": "topiq_nr_gfiqa_res50-d76bf1ae.pth",
}
_LOCK = threading.RLock()  # pyiqa and the patches below are not thread-safe


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

    def __init__(self, network: SeverityNet) -> None:
        self.network = network.eval().requires_grad_(False)

    def __call__(self, images: Tensor) -> Tensor:
        return self.normalise(self.raw(images))

    def normalise(self, raw: Tensor) -> Tensor:
        return raw

    def raw(self, images: Tensor) -> Tensor:
        check_images(images)
        device = next(self.network.parameters()).device
        images = images.to(device=device, dtype=torch.float32)
        shorter = min(images.shape[2:])
        if shorter != RESOLUTION:
            size = tuple(max(RESOLUTION, round(s * RESOLUTION / shorter)) for s in images.shape[2:])
            # Not clamped: a clamp would cut the gradient, and bicubic overshoot is harmless here.
            images = nn.functional.interpolate(images, size=size, mode="bicubic", antialias=True)
        return self.network(images)

    def to(self, device: torch.device | str) -> "BuiltinMetric":
        self.network.to(device)
        return self


class PyiqaMetric:
    """A pyiqa metric driven through its network, since pyiqa's own call drops gradients."""

    # These look at statistics of one image at a time, or fail for the whole batch when one image is constant.
    _PER_IMAGE = ("niqe", "ilniqe", "brisque", "piqe", "entropy")

    def __init__(self, name: str, network: nn.Module, lower_better: bool, score_range: tuple[float, float]) -> None:
        self.name, self.lower_better, self.score_range = name, lower_better, score_range
        self.network = network.eval().requires_grad_(False)
        self.device = torch.device("cpu")

    def __call__(self, images: Tensor) -> Tensor:
        return self.normalise(self.raw(images))

    def normalise(self, raw: Tensor) -> Tensor:
        low, high = self.score_range
        score = (raw - low) / (high - low)
        return (1 - score if self.lower_better else score).clamp(0, 1)

    def raw(self, images: Tensor) -> Tensor:
        check_images(images)
        # pyiqa's range checks compare in the input's dtype, so half precision holding exactly 1.0 would fail.
        images = images.to(device=self.device, dtype=torch.float32).clamp(0, 1)
        singles = any(self.name.startswith(prefix) for prefix in self._PER_IMAGE)
        with _LOCK:
            try:
                return torch.cat([self._score(part) for part in (images.split(1) if singles else [images])])
            except (RuntimeError, AssertionError, IndexError) as error:
                raise MetricError(
                    f"metric {self.name} cannot score images of {images.shape[3]}x{images.shape[2]} pixels ({error})."
                ) from error

    def _score(self, images: Tensor) -> Tensor:
        output = self.network(images)
        output = output[0] if isinstance(output, tuple) else output
        return output.reshape(len(images), -1)[:, 0].float()

    def to(self, device: torch.device | str) -> "PyiqaMetric":
        self.network.to(device)
        self.device = torch.device(device)
        return self


def list_metrics() -> tuple[str, ...]:
    """Names `load_metric` knows: the built-in one and pyiqa's no-reference metrics."""
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    return (BUILTIN, *(name for name, config in DEFAULT_CONFIGS.items() if config.get("metric_mode") == "NR"))


def weights_folder() -> Path:
    """Where pyiqa keeps its weights: $TORCH_HOME/hub/pyiqa."""
    return Path(torch.hub.get_dir()) / "pyiqa"


def load_metric(
    name: str = BUILTIN,
    device: torch.device | str = "cpu",
    folder: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Metric:
    """Load a quality metric.

    Args:
        name: "builtin", or any pyiqa no-reference metric. The face variants of TOPIQ score aligned crops directly.
        device: where it runs.
        folder: where its weights are; default `weights_folder()`.
        download: whether missing weights may be downloaded into that folder.

    Raises:
        MetricError: no such metric, or one that cannot be built here.
        WeightsNotFoundError: weights are missing and `download` is off; names file, folder and address.
    """
    if name == BUILTIN:
        with as_file(files(_PACKAGE) / "weights" / _BUILTIN_FILE) as path:
            return BuiltinMetric(load_severity(path)).to(device)
    return _load_pyiqa(name, Path(folder) if folder else weights_folder(), download).to(device)


def load_severity(path: str | os.PathLike[str]) -> SeverityNet:
    """The built-in metric's network from a file written by `iqpbfr train metric`."""
    network = SeverityNet()
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()})
    return network


def _load_pyiqa(name: str, folder: Path, download: bool) -> PyiqaMetric:
    known = list_metrics()
    if name not in known:
        close = [n for n in known if name.lower() in n or n in name.lower()] or known
        raise MetricError(
            f"unknown metric {name!r}. Did you mean one of: {', '.join(close[:12])}? `iqpbfr metrics` lists all {len(known)}."
        )
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    config = DEFAULT_CONFIGS[name]
    low, high = (float(number) for number in re.findall(r"-?\d+\.?\d*", config["score_range"])[:2])
    with _LOCK, _weights_from(folder, download):
        try:
            if name in _ALIGNED_TOPIQ:
                network = _aligned_topiq(_ALIGNED_TOPIQ[name], folder)
            else:
                from pyiqa import create_metric

                network = create_metric(name, device="cpu").net
        except OSError as error:
            if isinstance(error, WeightsNotFoundError):
                raise
            raise WeightsNotFoundError(
                f"metric {name}: its weights are not in {folder} and could not be had ({first_line(error)}). "
                "Go online and allow the download (download=True, --download), or copy the files there."
            ) from error
        except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
            wanted = _ALIGNED_TOPIQ.get(name, "its weights")
            raise MetricError(
                f"metric {name}: {wanted} in {folder} cannot be used ({first_line(error)}). Delete the file and fetch it again."
            ) from error
        except ImportError as error:
            raise MetricError(f"metric {name} needs a package that is not installed: {error}.") from error
    return PyiqaMetric(name, network, bool(config.get("lower_better", False)), (low, high))


def _aligned_topiq(filename: str, folder: Path) -> nn.Module:
    from pyiqa.archs.arch_util import get_url_from_name
    from pyiqa.archs.topiq_arch import CFANet
    from pyiqa.utils.download_util import load_file_from_url

    path = load_file_from_url(get_url_from_name(filename), model_dir=str(folder))
    network = CFANet(use_ref=False, pretrained=False, backbone_pretrain=False, test_img_size=(512, 512))
    weights = torch.load(path, map_location="cpu", weights_only=True)["params"]
    network.load_state_dict({key.removeprefix("module."): value for key, value in weights.items()}, strict=True)
    return network


def _create_untrained(create_model: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    return create_model(*args, **{**options, "pretrained": False})


@contextlib.contextmanager
def _weights_from(folder: Path, download: bool) -> Iterator[None]:
    """Make pyiqa read its weights from `folder`, as plain tensors only, and download nothing unless allowed to."""
    import huggingface_hub.constants
    import timm
    from pyiqa.utils import download_util

    def refuse(url: str, path: str, *_: object, **__: object) -> None:
        raise WeightsNotFoundError(
            f"the weights {Path(path).name} are not in {Path(path).parent}. Download {url} into that folder, "
            "or allow the download (download=True, --download)."
        )

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(download_util, "DEFAULT_CACHE_DIR", str(folder)))
        stack.enter_context(mock.patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))  # pyiqa announces every file it opens
        if not download:
            stack.enter_context(mock.patch.object(download_util, "download_url_to_file", refuse))
            stack.enter_context(mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True))
            # The metric's own file holds the backbone too and is loaded strictly; ImageNet weights are not needed.
            without_backbone = functools.partial(_create_untrained, timm.create_model)
            stack.enter_context(mock.patch.object(timm, "create_model", without_backbone))
        yield
