"""Gradients inside `torch.inference_mode()`, where ComfyUI runs its nodes.

Tensors made there cannot be part of a gradient, even after the mode is left; copies of them can.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from torch import Tensor, nn

from ..restorer import Codes, Features

T = TypeVar("T")


def own(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy if it was made in inference mode. Call outside that mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def own_codes(codes: Codes) -> Codes:
    """Codes a gradient can use."""
    quality = None if codes.quality is None else own(codes.quality)
    return replace(codes, indices=own(codes.indices), logits=own(codes.logits), quality=quality)


def own_features(features: Features) -> Features:
    """Features a gradient can use."""
    return Features(own(features.z), {side: own(skip) for side, skip in features.skips.items()})


def own_network(holder: T) -> T:
    """A network, or a metric around one (`.network`): itself, or a copy if its weights were made in inference mode."""
    network = holder if isinstance(holder, nn.Module) else getattr(holder, "network", None)
    if isinstance(network, nn.Module) and any(tensor.is_inference() for tensor in _tensors(network)):
        return copy.deepcopy(holder)
    return holder


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and what modules keep as plain attributes."""
    for module in network.modules():
        for group in (module._parameters, module._buffers, vars(module)):
            yield from (value for value in group.values() if isinstance(value, Tensor))
