"""Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167) for networks whose weights may lie elsewhere.

ComfyUI's `operations` have none, and modules it does not know stay on the CPU when a model is loaded in parts.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """(B, C, H, W) to the same; in evaluation the vectors come to the input's device as they are used.

    They stay in float32 when a network is converted: half precision ends at 65504, and variances of published weights
    do not.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BatchNorm2d":
        return super()._apply(lambda tensor: tensor.to(fn(tensor.new_empty(0)).device), recurse)

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        scale, shift = scale[:, None, None].to(input), shift[:, None, None].to(input)
        return torch.addcmul(shift, input, scale)
