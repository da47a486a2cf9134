"""The GAN of stages 1 and 3: a discriminator that learns beside the generator, and what it asks of it."""

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW

from .loop import update
from .losses import PatchDiscriminator, adaptive_weight, feature_matching, hinge_loss

GAN_WEIGHT = 0.8
FEATURE_MATCHING = 1.0


class Adversary:
    """`discriminator` and `optimizer` belong into the stage's checkpoint."""

    def __init__(self) -> None:
        self.discriminator = PatchDiscriminator()
        self.optimizer = AdamW(self.discriminator.parameters(), 3e-4, betas=(0.5, 0.99), weight_decay=1e-4)

    def loss(
        self, accelerator: Accelerator, output: Tensor, target: Tensor, reconstruction: Tensor, last_layer: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Update the discriminator on (B, 3, R, R) images in [-1, 1], then return the generator's loss and what to log.

        The hinge GAN is weighted against `reconstruction` by their gradients at `last_layer` (VQGAN).
        """
        with accelerator.autocast():
            decisions, _ = self.discriminator(torch.cat([target, output.detach()]))
        own = hinge_loss(*decisions.chunk(2))
        update(accelerator, self.optimizer, own)
        self.discriminator.requires_grad_(False)
        with accelerator.autocast():
            decision, fake = self.discriminator(output)
            with torch.no_grad():
                _, real = self.discriminator(target)
        self.discriminator.requires_grad_(True)
        adversarial = -decision.float().mean()
        matching = feature_matching(fake, real)
        weight = adaptive_weight(reconstruction, adversarial, last_layer)
        values = {"gan": adversarial.item(), "matching": matching.item(), "discriminator": own.item()}
        return GAN_WEIGHT * weight * adversarial + FEATURE_MATCHING * matching, values
