"""Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167) for networks whose weights may lie elsewhere.

ComfyUI's `operations` have none, and modules it does not know stay on the CPU when a model is loaded in parts.
"""

import torch
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """(B, C, H, W) to the same; in evaluation the vectors come to the input's device and dtype as they are used."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight.float() * (self.running_var.float() + self.eps).rsqrt()
        shift = self.bias.float() - self.running_mean.float() * scale
        scale, shift = scale[:, None, None].to(input), shift[:, None, None].to(input)
        return torch.addcmul(shift, input, scale)
