"""Modulation: a condition scales and shifts channels (FiLM, Perez et al. 2018, arXiv 1709.07871), starting from nothing as
in AdaLN-Zero (Peebles & Xie 2023, arXiv 2212.09748)."""

from typing import Any

from torch import Tensor, nn


def zero_linear(in_dim: int, dim: int, operations: Any = nn) -> nn.Linear:
    """A linear layer whose output is zero until it is trained."""
    linear = operations.Linear(in_dim, dim)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def modulate(x: Tensor, shift: Tensor | float, scale: Tensor) -> Tensor:
    """`x` scaled and shifted; `x` itself, whatever its precision, where both are zero. Shapes must broadcast."""
    return x * (1 + scale) + shift
