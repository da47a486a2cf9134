"""Losses on pictures: pixels and gradients, and their weight against a GAN's."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor


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


def adaptive_weight(
    accelerator: Accelerator, reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor
) -> Tensor:
    """Ratio of gradient norms at the generator's last layer (VQGAN, Esser et al. 2021, eq. 7), at most 1 as in the
    code of CodeFormer and IQPIR."""
    losses = (reconstruction, adversarial)
    gradients = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in losses]
    wanted, got = (gradient.norm() for gradient in accelerator.reduce(gradients, "mean"))
    return (wanted / (got + 1e-4)).clamp(0, 1).detach()
