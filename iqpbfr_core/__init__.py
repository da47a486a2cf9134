"""Blind face restoration with an image quality prior: the part that needs no ComfyUI.

`load_restorer`, `load_metric` and the other public names are loaded on first use, so that importing the package is
fast and touches neither torch nor the network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .degradation import degrade as degrade
    from .faces.detection import load_detector as load_detector
    from .optimize import optimize_codes as optimize_codes
    from .pipeline import restore_photo as restore_photo
    from .quality import load_metric as load_metric
    from .restorer import load_restorer as load_restorer

__version__ = "0.1.0"

_HOME = {
    "load_restorer": "restorer",
    "load_metric": "quality",
    "load_detector": "faces.detection",
    "restore_photo": "pipeline",
    "optimize_codes": "optimize",
    "degrade": "degradation",
}
__all__ = ["degrade", "load_detector", "load_metric", "load_restorer", "optimize_codes", "restore_photo"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
