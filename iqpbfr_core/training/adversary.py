"""The GAN of stages 1 and 3: a discriminator that learns beside the generator, and what it asks of it."""

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW

from ..models.autoencoder import Window
from .loop import update
from .losses import PatchDiscriminator, adaptive_weight, differentiable_augmentation, feature_matching, hinge_loss

FEATURE_MATCHING = 1.0
PENALTY_EVERY = 16  # steps; a penalty costs as much as a step of the discriminator
PENALTY = 0.01


class Adversary:
    """`discriminator` and `optimizer` belong into the stage's checkpoint.

    Args:
        weight: of the generator's GAN loss, beside the adaptive one; the authors' is .8 in stage 1 and .1 in stage 3.
        has_matching: whether the discriminator's features also stand in for a perceptual loss.
    """

    def __init__(self, weight: float, has_matching: bool) -> None:
        self.weight, self.has_matching = weight, has_matching
        self.discriminator = PatchDiscriminator()
        self.optimizer = AdamW(self.discriminator.parameters(), 3e-4, betas=(0.5, 0.99), weight_decay=1e-4)

    def loss(
        self,
        accelerator: Accelerator,
        output: Tensor,
        target: Tensor,
        score: Tensor,
        window: Window,
        reconstruction: Tensor,
        last_layer: Tensor,
        step: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Update the discriminator, then return the generator's loss and what to log.

        Args:
            output, target: that window of faces (B, 3, H, W) in [-1, 1], of the same score (B,).
            reconstruction, last_layer: the hinge GAN is weighted against this loss by their gradients there.
        """
        own = self._learn(accelerator, output.detach(), target, score, window, step)
        self.discriminator.requires_grad_(False)
        with accelerator.autocast():
            decision, fake = self.discriminator(differentiable_augmentation(output), score, window)
            asked = -decision.float().mean()
            matching = output.new_zeros(())
            if self.has_matching:
                with torch.no_grad():
                    _, real = self.discriminator(target, score, window)
                _, fake = self.discriminator(output, score, window)
                matching = feature_matching(fake, real)
        self.discriminator.requires_grad_(True)
        # The gradient at the picture is computed once; seen from the generator, the loss is linear in the picture.
        (gradient,) = torch.autograd.grad(asked, output, retain_graph=True)
        adversarial = (output * gradient).sum()
        weight = self.weight * adaptive_weight(reconstruction, adversarial, last_layer)
        values = {"gan": asked.detach(), "gan_weight": weight, "discriminator": own}
        return weight * adversarial + FEATURE_MATCHING * matching, values

    def _learn(
        self, accelerator: Accelerator, made: Tensor, real: Tensor, score: Tensor, window: Window, step: int
    ) -> Tensor:
        both = differentiable_augmentation(torch.cat([real, made]))
        with accelerator.autocast():
            decisions, _ = self.discriminator(both, torch.cat([score, score]), window)
        loss = hinge_loss(*decisions.chunk(2))
        if step % PENALTY_EVERY == 0:
            loss = loss + PENALTY * PENALTY_EVERY * self._penalty(real, score, window)
        update(accelerator, self.optimizer, loss)
        return loss.detach()

    def _penalty(self, real: Tensor, score: Tensor, window: Window) -> Tensor:
        """R1: squared gradient at real pictures (Mescheder et al. 2018, arXiv 1801.04406), per pixel."""
        real = real.detach().requires_grad_()
        decisions, _ = self.discriminator(real, score, window)
        (gradient,) = torch.autograd.grad(decisions.mean((1, 2, 3)).sum(), real, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean()
