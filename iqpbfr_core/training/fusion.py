"""Stage 3: fidelity, and a generator that is used to the codes it will get.

Encoder, codebooks and lookup are frozen, so the codes are those of stage 2. Half of the samples is decoded at w = 0 and
teaches the generator: the face should be of the score that was asked for, and, if that is a high one, look real to a
discriminator. The generator of stage 1 knew the codes of photographs only; a lookup's are never quite consistent
(CodeFormer leaves it as it is). Some of the codes are drawn from the lookup's distribution instead of being its first
choice, up to as many as a search over codes may change: it should find faces the generator knows.

The other half is decoded at w = 1 and teaches the fusion modules to be as close as they can (PSNR). Neither half
touches what the other one teaches. The fusion modules can also be trained alone.
"""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..checkpoint import save_network
from ..degradation import apply, draw
from ..errors import TrainingError
from ..image import tile, to_network
from ..models.code_restorer import CodeRestorer
from ..models.severity import SeverityNet
from ..restorer import Restorer, choose_codes
from .adversary import Adversary
from .autoencoder import Averaged, hq_threshold
from .imperfection import imperfect
from .lookup import degrade_for_training
from .loop import update
from .losses import psnr, psnr_loss, reconstruction_loss

GAN_RAMP = 50  # steps
MAX_VARIED = 0.5  # share of a face's tokens; the trust region of `optimize_codes`


class FusionStage:
    """See the module's docstring. `network` comes from stage 2 and is changed.

    Args:
        fidelity_only: train the fusion modules alone, on whole batches; what w = 0 gives stays as it is, bit for bit.
    """

    def __init__(
        self, network: CodeRestorer, metric: SeverityNet, seed: int = 0, *, fidelity_only: bool = False
    ) -> None:
        torch.manual_seed(seed)
        self.network = network.requires_grad_(False)
        self.metric = metric.eval().requires_grad_(False)
        self.adversary = Adversary()
        self.fidelity_only = fidelity_only
        groups = [{"params": list(network.fuse_convs_dict.requires_grad_(True).parameters()), "lr": 5e-4}]
        if not fidelity_only:
            groups.append({"params": list(network.generator.requires_grad_(True).parameters()), "lr": 1e-4})
        self.average = Averaged(network)
        self.modules: dict[str, nn.Module] = {
            "network": network,
            "average": self.average.module,
            "discriminator": self.adversary.discriminator,
        }
        self.optimizers: dict[str, Optimizer] = {
            "fusion": AdamW(groups, betas=(0.8, 0.98), weight_decay=1e-3),
            "discriminator": self.adversary.optimizer,
        }
        self.threshold = 0.0

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        self.threshold = hq_threshold(self.metric.to(accelerator.device), faces)

    def step(self, accelerator: Accelerator, faces: Tensor, seeds: Tensor, step: int) -> dict[str, float]:
        half = 0 if self.fidelity_only else len(faces) // 2
        if half == 0 and not self.fidelity_only:
            raise TrainingError(f"stage 3 halves its batches: they need at least 2 faces, got {len(faces)}.")
        free, close = slice(0, half), slice(half, None)
        with torch.no_grad(), accelerator.autocast():
            wanted = torch.cat([imperfect(faces[free], seeds[free]), faces[close]]) if half else faces
            score = self.metric(wanted)
            lq, target = to_network(degrade_for_training(faces, seeds)), to_network(wanted)
            z, skips = self.network.encode(lq)
            z = self.network.condition(z, score)
            logits = self.network.logits(z, score)
            indices = torch.cat([_vary(logits[free].float(), int(seeds[0])), logits[close].argmax(2)])
            z_q = self.network.quantise(indices, self.network.config.alpha, like=z)
            skips = {side: skip[close] for side, skip in skips.items()}
        with accelerator.autocast(), _frozen(self.network.generator):
            faithful = self.network.generate(z_q[close], z[close], skips, 1.0).float()
        loss = psnr_loss(faithful, target[close])
        values = {"psnr": psnr(faithful, target[close]), "psnr_lq": psnr(lq[close], target[close])}
        if half:
            looks, more = self._looks(accelerator, z_q[free], z[free], target[free], score[free], step)
            loss, values = loss + looks, values | more
        update(accelerator, self.optimizers["fusion"], loss)
        self.average.update(self.network, step)
        return values

    def _looks(
        self, accelerator: Accelerator, z_q: Tensor, z: Tensor, target: Tensor, score: Tensor, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """The generator's loss at w = 0, and what to log."""
        with accelerator.autocast():
            face = self.network.generate(z_q, z, {}, 0.0).float()
        loss = reconstruction_loss(face, target)
        values = {"reconstruction": loss.item(), "gan": 0.0, "matching": 0.0, "discriminator": 0.0}
        is_high = score > self.threshold
        if is_high.any():
            adversarial, more = self.adversary.loss(
                accelerator, face[is_high], target[is_high], loss, self.network.generator.last_layer
            )
            loss, values = loss + min(1.0, step / GAN_RAMP) * adversarial, values | more
        return loss, values

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Rows: degraded, fidelity 0, 0.5, 1, original."""
        restorer = Restorer(copy.deepcopy(self.average.module))
        lq = apply(faces, [draw("full", i, faces.shape[-1]) for i in range(len(faces))])
        features = restorer.encode(lq)
        codes = restorer.lookup(features, 1.0)
        rows = [lq, *(restorer.decode(codes, features, w) for w in (0.0, 0.5, 1.0)), faces]
        return tile(rows)

    def export(self, path: Path) -> None:
        save_network(self.average.module, path)


def _vary(logits: Tensor, seed: int) -> Tensor:
    """(B, N, K, books) -> codes (B, N, books): the likeliest, but on a random share of each face's tokens drawn ones."""
    share = MAX_VARIED * torch.rand(len(logits), 1, 1, device=logits.device)
    varies = torch.rand(logits.shape[:2], device=logits.device)[..., None] < share
    return torch.where(varies, choose_codes(logits, 1.0, seed), choose_codes(logits, 0.0, seed))


@contextlib.contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """What is computed inside sends no gradient to the parameters of `module`."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
