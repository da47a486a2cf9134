"""Straight-through estimator (Bengio et al. 2013, arXiv 1308.3432): a hard choice forwards, its soft relaxation backwards."""

from typing import Any

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hard: Tensor, soft: Tensor) -> Tensor:
        ctx.dtype = soft.dtype
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[None, Tensor]:
        return None, grad[0].to(ctx.dtype)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """`hard` itself, bit for bit, with the gradient of `soft` (same shape).

    The usual `soft + (hard - soft).detach()` is `hard` up to rounding only.
    """
    return _StraightThrough.apply(hard, soft)  # type: ignore[return-value]
