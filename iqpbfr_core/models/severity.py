"""The built-in quality model: a small convolutional network that grades how degraded a face is.

It sees what a degradation does to texture, so it pools means and spreads of feature maps (as style statistics do,
Gatys et al. 2016) at four scales instead of looking for content. Batch normalisation keeps it cheap on a CPU; in
evaluation mode an image's score does not depend on its batch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.batch_norm import BatchNorm2d

RESOLUTION = 256
WIDTHS = (24, 48, 96, 160)
NUM_KNOTS = 17


class _Stage(nn.Module):
    """Residual stage that halves the resolution."""

    def __init__(self, in_dim: int, out_dim: int, operations: Any) -> None:
        super().__init__()
        self.conv1 = operations.Conv2d(in_dim, out_dim, 3, stride=2, padding=1, bias=False)
        self.norm1 = BatchNorm2d(out_dim)
        self.conv2 = operations.Conv2d(out_dim, out_dim, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(x)))


class SeverityNet(nn.Module):
    """(B, 3, H, W) in [0, 1] to a score (B,) in [0, 1], 1 = best. Trained for faces 256 pixels wide.

    The network's own output is calibrated by a rising, piecewise linear curve through `knots`, its values for scores of
    0, 1/16, ... 1.
    """

    knots: Tensor

    def __init__(self, operations: Any = nn) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_Stage(i, o, operations) for i, o in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True))
        self.head = nn.Sequential(operations.Linear(2 * sum(WIDTHS), 128), nn.SiLU(), operations.Linear(128, 1))
        self.register_buffer("knots", torch.linspace(0, 1, NUM_KNOTS))

    def forward(self, images: Tensor) -> Tensor:
        x = images * 2 - 1
        statistics = []
        for stage in self.stages:
            x = stage(x)
            flat = x.flatten(2).float()
            statistics += [flat.mean(2), (flat.var(2, correction=0) + 1e-6).sqrt()]
        return self.calibrated(self.head(torch.cat(statistics, 1).to(x.dtype)).float().sigmoid()[:, 0])

    def calibrated(self, output: Tensor) -> Tensor:
        """The network's own output (B,) in [0, 1] on the curve; gradients flow."""
        place = torch.searchsorted(self.knots, output.detach()).clamp(1, NUM_KNOTS - 1)
        low, high = self.knots[place - 1], self.knots[place]
        return (place - 1 + (output - low) / (high - low)) / (NUM_KNOTS - 1)

    @torch.no_grad()
    def calibrate(self, outputs: Tensor) -> None:
        """Set the curve such that these outputs (N,) of an uncalibrated network fill [0, 1] evenly."""
        knots = outputs.float().quantile(torch.linspace(0, 1, NUM_KNOTS, device=outputs.device))
        knots[0], knots[-1] = 0, 1
        rising = knots.cummax(0).values + 1e-4 * torch.arange(NUM_KNOTS, device=knots.device)
        self.knots.copy_(rising / rising[-1])
