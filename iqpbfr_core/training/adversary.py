"""The GAN of stages 1 and 3: a discriminator that learns beside the generator, and what it asks of it."""

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW

from ..models.autoencoder import Window
from .discriminator import NUM_DRAWN, FeatureDiscriminator, differentiable_augmentation, hinge_loss, mean_decision
from .loop import update
from .losses import adaptive_weight
from .perceptual import CHANNELS, PerceptualLoss
from .processes import Part, find_part

PENALTY = 0.003
NUM_MAPS = 4  # strides 2 to 16; coarser ones see the whole window at once


class Adversary:
    """`discriminator` and `optimizer` belong into the stage's checkpoint.

    Args:
        weight: of the generator's GAN loss, beside the adaptive one; the authors' is .8 in stage 1 and .1 in stage 3.
        perceptual: whose features the discriminator sees.
    """

    def __init__(self, weight: float, perceptual: PerceptualLoss) -> None:
        self.weight, self.perceptual = weight, perceptual
        self.discriminator = FeatureDiscriminator(CHANNELS[:NUM_MAPS])
        self.optimizer = AdamW(self.discriminator.parameters(), 1e-3, betas=(0.0, 0.99), weight_decay=1e-4)

    def loss(
        self,
        accelerator: Accelerator,
        output: Tensor,
        target: Tensor,
        score: Tensor,
        window: Window,
        reconstruction: Tensor,
        last_layer: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Update the discriminator, then return the generator's loss and what to log.

        Args:
            output, target: that window of faces (B, 3, H, W) in [-1, 1], of the same score (B,); B may differ between
                processes, and must not be 0.
            reconstruction, last_layer: the hinge GAN is weighted against this loss by their gradients there.
        """
        part = find_part(accelerator, len(output))
        # In a mean over processes every face counts the same.
        share = part.count * accelerator.num_processes / part.total
        own = self._learn(accelerator, output.detach(), target, score, window, part, share)
        self.discriminator.requires_grad_(False)
        with accelerator.autocast():
            decisions = self.discriminator(self._seen(_augmented(part, output)), score, window)
        self.discriminator.requires_grad_(True)
        asked = -share * mean_decision(decisions).mean()
        # The gradient at the picture is computed once; seen from the generator, the loss is linear in the picture.
        (gradient,) = torch.autograd.grad(asked, output, retain_graph=True)
        adversarial = (output * gradient).sum()
        weight = self.weight * adaptive_weight(accelerator, reconstruction, adversarial, last_layer)
        return weight * adversarial, {"gan": asked.detach(), "gan_weight": weight, "discriminator": own}

    def _learn(
        self,
        accelerator: Accelerator,
        made: Tensor,
        real: Tensor,
        score: Tensor,
        window: Window,
        part: Part,
        share: float,
    ) -> Tensor:
        with torch.no_grad(), accelerator.autocast():
            both = self._seen(_augmented(part, real, made))
        real_seen = [x[: len(real)].requires_grad_() for x in both]
        with accelerator.autocast():
            decisions = self.discriminator(real_seen, score, window)
            loss = hinge_loss(decisions, self.discriminator([x[len(real) :] for x in both], score, window))
        penalty = _penalty(decisions, real_seen)
        update(accelerator, self.optimizer, share * (loss + PENALTY * penalty))
        return share * loss.detach()

    def _seen(self, images: Tensor) -> list[Tensor]:
        return self.perceptual.features(images)[:NUM_MAPS]


def _augmented(part: Part, *images: Tensor) -> Tensor:
    """Batches of this process's faces in one, changed by their part of what is drawn for all."""
    u = torch.rand(len(images), part.total, NUM_DRAWN, 1, 1, 1, device=images[0].device, dtype=images[0].dtype)
    return differentiable_augmentation(torch.cat(images), u[:, part.first : part.first + part.count].flatten(0, 1))


def _penalty(decisions: list[Tensor], seen: list[Tensor]) -> Tensor:
    """R1: squared gradient at real faces (Mescheder et al. 2018, arXiv 1801.04406), taken at their features, which
    costs no way back through the network that made them; a map's own place is what counts, so per place."""
    total = torch.stack([decision.float().sum() for decision in decisions]).sum()
    gradients = torch.autograd.grad(total, seen, create_graph=True)
    return torch.stack([gradient.float().square().sum(1).mean() for gradient in gradients]).mean()
