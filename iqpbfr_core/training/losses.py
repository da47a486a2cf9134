"""Losses that need no pretrained weights: reconstruction in pixels and gradients, and a patch discriminator."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..faces.alignment import TEMPLATE

# Eyes, corners and middle of the mouth of an aligned face, as shares of its side.
EYES_AND_MOUTH = torch.cat([TEMPLATE[[0, 1, 3, 4]], TEMPLATE[3:].mean(0, keepdim=True)]).tolist()


def emphasis(like: Tensor, strength: float = 3.0, spread: float = 0.06) -> Tensor:
    """Weights (1, 1, H, W), 1 away from the eyes and the mouth and 1 + `strength` on them.

    They cover a twentieth of the picture and most of what people look at (as GFPGAN's facial component loss,
    Wang et al. 2021, arXiv 2101.04061).
    """
    rows, columns = ((torch.arange(n, device=like.device) + 0.5) / n for n in like.shape[2:])
    bumps = [
        torch.exp(-((columns[None] - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * spread**2)) for x, y in EYES_AND_MOUTH
    ]
    return 1 + strength * torch.stack(bumps).amax(0)[None, None]


def gradient_loss(output: Tensor, target: Tensor, weight: Tensor, scales: int = 3) -> Tensor:
    """Weighted L1 between image gradients at `scales` octaves: edges where they belong, without VGG."""
    loss = output.new_zeros(())
    for _ in range(scales):
        error = output - target
        loss = loss + (error.diff(dim=2).abs() * weight[:, :, 1:]).mean()
        loss = loss + (error.diff(dim=3).abs() * weight[..., 1:]).mean()
        output, target, weight = (F.avg_pool2d(x, 2) for x in (output, target, weight))
    return loss / scales


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 plus multi-scale gradient L1, eyes and mouth weighted; aligned faces in [-1, 1]."""
    weight = emphasis(target)
    return ((output - target).abs() * weight).mean() + gradient_loss(output, target, weight)


def psnr_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean over faces of the logarithm of the squared error: every face's PSNR counts the same, however hard it is.

    As PSNRLoss of HINet (Chen et al. 2021, arXiv 2105.06086) and NAFNet.
    """
    return ((output - target) ** 2).mean((1, 2, 3)).clamp(min=1e-8).log().mean()


def psnr(output: Tensor, target: Tensor) -> float:
    """Of a whole batch in [-1, 1], in dB, for logs."""
    return (10 * torch.log10(4 / F.mse_loss(output.clamp(-1, 1), target))).item()


class PatchDiscriminator(nn.Module):
    """Convolutional patch discriminator (Isola et al. 2017) with spectral normalisation (Miyato et al. 2018).

    Faces are aligned, so it is also told where it looks, by two channels of coordinates (CoordConv, Liu et al. 2018,
    arXiv 1807.03247): what passes for hair does not pass for an eye. Returns the patch decisions and the intermediate
    features, which double as a perceptual distance.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        dims = (3 + 2, width, 2 * width, 4 * width, 4 * width, 4 * width)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(i, o, 4, stride=2 if n < 4 else 1, padding=1))
            for n, (i, o) in enumerate(itertools.pairwise(dims))
        )
        self.decision = spectral_norm(nn.Conv2d(dims[-1], 1, 3, padding=1))

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) in [-1, 1]; sides of at least 32."""
        features = []
        x = torch.cat([images, _coordinates(images)], dim=1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.decision(x), features


def _coordinates(like: Tensor) -> Tensor:
    """Row and column of every pixel in [-1, 1], (B, 2, H, W)."""
    rows, columns = (torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in like.shape[2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(len(like), -1, -1, -1)


def feature_matching(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean relative L1 between discriminator features (Wang et al. 2018, pix2pixHD, arXiv 1711.11585)."""
    distances = [
        (f.float() - r.float().detach()).abs().mean() / (r.float().detach().abs().mean() + 1e-6)
        for f, r in zip(fake, real, strict=True)
    ]
    return torch.stack(distances).mean()


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator hinge loss (Lim & Ye 2017)."""
    return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean())


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Ratio of gradient norms at the generator's last layer (VQGAN, Esser et al. 2021, eq. 7)."""
    wanted = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)[0].norm()
    got = torch.autograd.grad(adversarial, last_layer, retain_graph=True)[0].norm()
    return (wanted / (got + 1e-4)).clamp(0, 1e4).detach()
