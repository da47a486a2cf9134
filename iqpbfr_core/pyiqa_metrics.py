"""pyiqa's metrics with weights from a folder of the caller's, loaded strictly and as plain tensors.

pyiqa's networks fetch their weights while they are constructed, and ImageNet weights for the backbone before that,
which their own file then replaces. Here a network's constructor runs with the functions it loads by replaced by those
of `_Weights`. They are replaced in a copy of the constructor's namespace: pyiqa, timm, torchvision and the environment
stay as they are for everybody else.

pyiqa (PolyForm Noncommercial licence) is imported only when one of its metrics is asked for.
"""

import contextlib
import io
import re
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from .download import Progress, WeightFile, fetch
from .errors import CheckpointError, IQPError, MetricError, WeightsNotFoundError, first_line
from .extras import needs
from .image import check_images
from .tensor_file import read_torch_file

# Which module of pyiqa.archs holds a network; pyiqa itself looks for it in all of them, which takes four seconds.
_MODULES = {
    "AFINE": "afine_arch",
    "ARNIQA": "arniqa_arch",
    "BRISQUE": "brisque_arch",
    "CFANet": "topiq_arch",
    "CLIPIQA": "clipiqa_arch",
    "CNNIQA": "cnniqa_arch",
    "Compare2Score": "compare2score_arch",
    "DBCNN": "dbcnn_arch",
    "Entropy": "entropy_arch",
    "HyperNet": "hypernet_arch",
    "ILNIQE": "niqe_arch",
    "LAIONAes": "laion_aes_arch",
    "LIQE": "liqe_arch",
    "MACLIP": "maclip_arch",
    "MANIQA": "maniqa_arch",
    "MUSIQ": "musiq_arch",
    "MetaIQA": "metaiqa_arch",
    "NIMA": "nima_arch",
    "NIQE": "niqe_arch",
    "NRQM": "nrqm_arch",
    "PAQ2PIQ": "paq2piq_arch",
    "PI": "nrqm_arch",
    "PIQE": "piqe_arch",
    "QAlign": "qalign_arch",
    "QualiCLIP": "qualiclip_arch",
    "TReS": "tres_arch",
    "UNIQUE": "unique_arch",
    "URanker": "uranker_arch",
    "WaDIQaM": "wadiqam_arch",
}
_PARTS = {"PI": ("NRQM", "NIQE"), "MACLIP": ("CustomCLIP",)}  # networks that construct others which load weights
_ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
_LOCK = threading.RLock()  # pyiqa is not thread-safe


class PyiqaMetric:
    """A pyiqa metric driven through its network, since pyiqa's own call drops gradients; see `quality.Metric`."""

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
            except (RuntimeError, AssertionError, IndexError, ValueError) as error:
                raise MetricError(
                    f"metric {self.name} cannot score images of {images.shape[3]}x{images.shape[2]} pixels "
                    f"({first_line(error)})."
                ) from error

    def _score(self, images: Tensor) -> Tensor:
        output = self.network(images)
        output = output[0] if isinstance(output, tuple) else output
        return output.reshape(len(images), -1)[:, 0].float()

    def to(self, device: torch.device | str) -> "PyiqaMetric":
        self.network.to(device)
        self.device = torch.device(device)
        return self


def names() -> tuple[str, ...]:
    """The metrics of single images that the installed pyiqa has."""
    return tuple(
        name
        for name, config in _configs().items()
        if config.get("metric_mode") == "NR" and config["metric_opts"]["type"] in _MODULES
    )


def _configs() -> Mapping[str, Any]:
    with needs("iqa", "every metric but builtin"):
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
    return DEFAULT_CONFIGS


def load(name: str, folder: Path, download: bool, progress: Progress | None = None) -> PyiqaMetric:
    """Load one of `names`; see `quality.load_metric`."""
    known = names()
    if name not in known:
        close = [n for n in known if name.lower() in n or n in name.lower()] or known
        raise MetricError(
            f"unknown metric {name!r}. Did you mean one of: {', '.join(close[:12])}? `iqpbfr metrics` lists all {len(known)}."
        )
    config = _configs()[name]
    numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", config["score_range"])]
    low, high = [*numbers, 10.0][:2]  # pyiqa gives pi no upper end; both of its parts count to 10
    weights = _Weights(folder, download, progress)
    with _building(name, weights):
        network = _build(weights, **config["metric_opts"])
    return PyiqaMetric(name, network, bool(config.get("lower_better", False)), (low, high))


def load_lpips(folder: Path, download: bool = False, progress: Progress | None = None) -> nn.Module:
    """LPIPS on AlexNet (Zhang et al. 2018, arXiv 1801.03924): images (B, 3, H, W) in [0, 1] twice -> (B, 1, 1, 1)."""
    weights = _Weights(folder, download, progress)
    with _building("lpips", weights):
        module = import_module("pyiqa.archs.lpips_arch")
        trunk = partial(_construct, module.alexnet, weights.replacements(module))
        network: Any = _construct(module.LPIPS, {"alexnet": trunk}, pretrained=False)
        layers = weights.read(module.default_model_urls["0.1_alex"])
        network.lins.load_state_dict({key.replace("lin", "", 1): value for key, value in layers.items()}, strict=True)
        features = weights.read(_ALEXNET)
        own = {name: features[f"features.{name.split('.', 1)[1]}"] for name in network.net.state_dict()}
        network.net.load_state_dict(own, strict=True)
    return network.eval().requires_grad_(False)


def load_inception(folder: Path, download: bool = False, progress: Progress | None = None) -> nn.Module:
    """The network whose features FID compares."""
    weights = _Weights(folder, download, progress)
    with _building("fid", weights):
        module = import_module("pyiqa.archs.inception")
        build = module.fid_inception_v3
        trunk = types.FunctionType(build.__code__, {**build.__globals__, "load_pretrained_network": weights.into})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyiqa calls torchvision in its old way
            network = _construct(module.InceptionV3, {"fid_inception_v3": trunk})
    return network.eval().requires_grad_(False)


@contextlib.contextmanager
def _building(name: str, weights: "_Weights") -> Iterator[None]:
    """Around what constructs a metric: its errors say which file they are about."""
    # pyiqa announces what it opens.
    with _LOCK, needs("iqa", f"metric {name}"), contextlib.redirect_stdout(io.StringIO()):
        try:
            yield
        except (WeightsNotFoundError, ImportError):
            raise
        except Exception as error:  # a library parses a file of anybody's making, and every kind of error was seen
            if weights.opened or isinstance(error, CheckpointError | RuntimeError | KeyError | ValueError):
                raise MetricError(
                    f"metric {name}: {weights.opened or 'its weights'} in {weights.folder} cannot be used "
                    f"({first_line(error)}). Delete the file and fetch it again."
                ) from error
            if isinstance(error, IQPError) or not isinstance(error, OSError):
                raise
            raise WeightsNotFoundError(
                f"metric {name}: its weights are not in Hugging Face's cache ({first_line(error)}). Go online and allow "
                "the download (download=True, --download)."
            ) from error


def _build(weights: "_Weights", type: str, **options: Any) -> nn.Module:
    module = import_module(f"pyiqa.archs.{_MODULES[type]}")
    network_class = getattr(module, type)
    replaced = weights.replacements(module)
    for part in _PARTS.get(type, ()):
        replaced[part] = partial(_construct, getattr(module, part), dict(replaced))
    if "gfiqa" in options.get("model_name", ""):
        # TOPIQ for faces finds and aligns them itself, slowly and without a gradient. Ours are aligned: the network alone.
        url = module.default_model_urls[options.pop("model_name")]
        network = _construct(network_class, replaced, pretrained=False, **options)
        weights.into(network, url, weight_keys="params")
        return network
    if type == "MetaIQA":
        # Its own loading drops what does not fit.
        network = _construct(network_class, replaced, pretrained=False, **options)
        weights.into(network, module.default_model_urls["meta-infer-ready"], rename=(("net_g.", ""), ("net.", "head.")))
        return network
    return _construct(network_class, replaced, **options)


def _construct(
    network_class: type[nn.Module], replaced: Mapping[str, Any], /, *arguments: Any, **options: Any
) -> nn.Module:
    """Construct a network whose constructor sees `replaced` instead of the names of its module."""
    constructor: Any = network_class.__init__
    namespace = {**constructor.__globals__, **replaced}
    here = types.FunctionType(
        constructor.__code__, namespace, "__init__", constructor.__defaults__, constructor.__closure__
    )
    here.__kwdefaults__ = constructor.__kwdefaults__
    network = network_class.__new__(network_class)
    here(network, *arguments, **options)
    return network


class _Weights:
    """What pyiqa's constructors load by: files of one folder, read as plain tensors, downloaded only if allowed."""

    def __init__(self, folder: Path, download: bool, progress: Progress | None) -> None:
        self.folder, self.download, self.progress = folder, download, progress
        self.opened = ""  # the last file's name

    def replacements(self, module: types.ModuleType) -> dict[str, Any]:
        """For the names pyiqa's modules use; a name that a module does not have does no harm in it."""
        import timm
        import torchvision

        models = _Overlay(torchvision.models, _untrained_torchvision)
        hub = types.SimpleNamespace(load_state_dict_from_url=lambda url, **_: self.read(url))
        replaced: dict[str, Any] = {
            "load_pretrained_network": self.into,
            "load_file_from_url": self.path,
            "DEFAULT_CACHE_DIR": str(self.folder),
            "timm": _Overlay(timm, {"create_model": partial(_untrained, timm.create_model)}.get),
            "torchvision": _Overlay(torchvision, {"models": models}.get),
            "tv": _Overlay(torchvision, {"models": models}.get),
            "models": models,
            "torch": _Overlay(torch, {"hub": hub, "load": _load_tensors}.get),
        }
        if hasattr(module, "create_swin"):
            replaced["create_swin"] = partial(_untrained, module.create_swin)
        if hasattr(module, "load"):
            replaced["load"] = partial(self.clip, module.load)
        if hasattr(module, "clip"):
            replaced["clip"] = _Overlay(module.clip, {"load": partial(self.clip, module.clip.load)}.get)
        for name in ("MPLUGOwl2LlamaForCausalLM", "CLIPImageProcessor"):  # gigabytes, in Hugging Face's own cache
            if hasattr(module, name):
                cached = partial(getattr(module, name).from_pretrained, local_files_only=not self.download)
                replaced[name] = types.SimpleNamespace(from_pretrained=cached)
        return replaced

    def path(self, url: str, *_: Any, **__: Any) -> str:
        """Where the file of an address is; fetched if it is missing and may be."""
        self.opened = Path(urlparse(url).path).name
        if (self.folder / self.opened).is_file():
            return str(self.folder / self.opened)
        if not self.download:
            raise WeightsNotFoundError(
                f"the weights {self.opened} are not in {self.folder}. Download {url} into that folder, "
                "or allow the download (download=True, --download)."
            )
        return str(fetch(WeightFile(self.opened, url), self.folder, self.progress))

    def read(self, url: str) -> Any:
        return _load_tensors(self.path(url))

    def into(
        self,
        network: nn.Module,
        url: str,
        strict: bool = True,
        weight_keys: str | None = None,
        rename: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Load a network's weights, always strictly: a wrong file would leave random ones where it does not fit."""
        content = self.read(url)
        content = content[weight_keys] if weight_keys else content.get("params", content.get("state_dict", content))
        weights = {}
        for key, value in content.items():
            for old, new in (("module.", ""), *rename):
                key = key.replace(old, new) if rename else key.removeprefix(old)
            weights[key] = value
        network.load_state_dict(weights, strict=True)

    def clip(self, load: Callable[..., Any], name: str, device: Any = "cpu", jit: bool = False, **_: Any) -> Any:
        """OpenAI's CLIP from our folder; `load` also takes a path."""
        from pyiqa.archs.clip_model import _MODELS

        return load(self.path(_MODELS[name]), device, jit)


class _Overlay:
    """A module in which some names mean something else: those for which `replacement` gives an object."""

    def __init__(self, module: types.ModuleType, replacement: Callable[[str], Any]) -> None:
        self._module, self._replacement = module, replacement

    def __getattr__(self, name: str) -> Any:
        replaced = self._replacement(name)
        return getattr(self._module, name) if replaced is None else replaced


def _load_tensors(file: Any, *_: Any, **__: Any) -> Any:
    return read_torch_file(file)


def _untrained(create: Callable[..., nn.Module], *arguments: Any, **options: Any) -> nn.Module:
    return create(*arguments, **{**options, "pretrained": False})


def _untrained_torchvision(name: str) -> Any:
    import torchvision

    model = getattr(torchvision.models, name)
    return (lambda *_, **__: model(weights=None)) if isinstance(model, types.FunctionType) else None
