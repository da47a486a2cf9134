"""Losses on pictures: pixels and gradients, and a patch discriminator that is told score and place."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..models.autoencoder import Window


def gradient_loss(output: Tensor, target: Tensor, scales: int = 3) -> Tensor:
    """L1 between image gradients at `scales` octaves: edges where they belong, without VGG."""
    loss = output.new_zeros(())
    for _ in range(scales):
        error = output - target
        loss = loss + error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    return loss / scales


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 plus multi-scale gradient L1 of (B, 3, H, W) in [-1, 1]."""
    return F.l1_loss(output, target) + gradient_loss(output, target)


def psnr_loss(output: Tensor, target: Tensor) -> Tensor:
    """(B,) logarithm of the squared error: every face's PSNR counts the same, however hard it is.

    As PSNRLoss of HINet (Chen et al. 2021, arXiv 2105.06086) and NAFNet.
    """
    return ((output - target) ** 2).mean((1, 2, 3)).clamp(min=1e-8).log()


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Of a whole batch in [-1, 1], in dB, for logs."""
    return 10 * torch.log10(4 / F.mse_loss(output.detach().clamp(-1, 1), target))


class PatchDiscriminator(nn.Module):
    """Convolutional patch discriminator (Isola et al. 2017) with spectral normalisation (Miyato et al. 2018).

    Faces are aligned, so it is told where it looks, by two channels of coordinates (CoordConv, Liu et al. 2018,
    arXiv 1807.03247): what passes for hair does not pass for an eye. A third channel tells it the score, so that a
    blurred face may pass where a blurred one was asked for. Returns the patch decisions and the intermediate features.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        dims = (3 + 3, width, 2 * width, 4 * width, 4 * width, 4 * width)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(i, o, 4, stride=2 if n < 4 else 1, padding=1))
            for n, (i, o) in enumerate(itertools.pairwise(dims))
        )
        self.decision = spectral_norm(nn.Conv2d(dims[-1], 1, 3, padding=1))

    def forward(self, images: Tensor, score: Tensor, window: Window) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) in [-1, 1], that window of faces of a score (B,); sides of at least 64."""
        told = (score.to(images) * 2 - 1)[:, None, None, None].expand(-1, 1, *images.shape[2:])
        x = torch.cat([images, _coordinates(images, window), told], dim=1)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.decision(x), features


def _coordinates(like: Tensor, window: Window) -> Tensor:
    """Row and column of every pixel, in [-1, 1] over the whole picture, (B, 2, H, W)."""
    height, width = like.shape[2:]
    rows = torch.linspace(window.top, window.bottom, height, device=like.device) * (2 / window.of) - 1
    columns = torch.linspace(window.left, window.right, width, device=like.device) * (2 / window.of) - 1
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return grid.to(like.dtype).expand(len(like), -1, -1, -1)


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
    """Ratio of gradient norms at the generator's last layer (VQGAN, Esser et al. 2021, eq. 7), at most 1 as in the
    code of CodeFormer and IQPIR."""
    wanted = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)[0].norm()
    got = torch.autograd.grad(adversarial, last_layer, retain_graph=True)[0].norm()
    return (wanted / (got + 1e-4)).clamp(0, 1).detach()


def differentiable_augmentation(images: Tensor) -> Tensor:
    """Change brightness, saturation and contrast and cut out a square, at random per image (B, 3, H, W), as much for
    real as for made ones, so that the discriminator cannot learn few faces by heart (Zhao et al. 2020, arXiv 2006.10738)."""
    height, width = images.shape[2:]
    u = torch.rand(len(images), 5, 1, 1, 1, device=images.device, dtype=images.dtype)
    images = images + 0.4 * (u[:, 0] - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (0.5 + u[:, 1])
    middle = images.mean((1, 2, 3), keepdim=True)
    images = middle + (images - middle) * (0.75 + 0.5 * u[:, 2])
    rows = torch.arange(height, device=images.device)[:, None] / height
    columns = torch.arange(width, device=images.device) / width
    is_cut = ((rows - u[:, 3]).abs() < 0.15) & ((columns - u[:, 4]).abs() < 0.15)
    return images * ~is_cut
