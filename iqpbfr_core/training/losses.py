"""Losses that need no pretrained weights: reconstruction in pixels and gradients, and a patch discriminator."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def gradient_loss(output: Tensor, target: Tensor, scales: int = 3) -> Tensor:
    """L1 between image gradients at `scales` octaves: edges where they belong, without VGG."""
    loss = output.new_zeros(())
    for _ in range(scales):
        for dim in (2, 3):
            loss = loss + F.l1_loss(output.diff(dim=dim), target.diff(dim=dim))
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    return loss / scales


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 plus multi-scale gradient L1; images in [-1, 1]."""
    return F.l1_loss(output, target) + gradient_loss(output, target)


def psnr(output: Tensor, target: Tensor) -> float:
    """Of a whole batch in [-1, 1], in dB, for logs."""
    return (10 * torch.log10(4 / F.mse_loss(output.clamp(-1, 1), target))).item()


class PatchDiscriminator(nn.Module):
    """Convolutional patch discriminator (Isola et al. 2017) with spectral normalisation (Miyato et al. 2018).

    Returns the patch decisions and the intermediate features, which double as a perceptual distance.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        dims = (3, width, 2 * width, 4 * width, 4 * width)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(i, o, 4, stride=2 if n < 3 else 1, padding=1))
            for n, (i, o) in enumerate(itertools.pairwise(dims))
        )
        self.decision = spectral_norm(nn.Conv2d(dims[-1], 1, 4, padding=1))

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        x = images
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.decision(x), features


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
