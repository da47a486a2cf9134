"""Stage 3: fidelity, and a generator that is used to the codes it will get.

Encoder, codebooks and lookup are frozen, so the codes are those of stage 2. Half of the samples is decoded at w = 0 and
teaches the generator: a face of the score that was asked for, close to the target as far as codes can tell (pixels are
compared at a quarter of the size, features in full), that a discriminator which is told the score takes for real, and
that measures what was asked for. The generator of stage 1 knew the codes of photographs only; a lookup's are never
quite consistent (CodeFormer leaves it as it is). Some of the codes are drawn from the lookup's distribution instead of
being its first choice, up to as many as a search over codes may change: it should find faces the generator knows.

The other half is decoded at some w and teaches the fusion modules: to be as close as they can at w = 1, and to look like
a photograph of this person below. At w = 1 pixels alone count: features would draw detail that belongs to others, and a
face recogniser notices. Neither half touches what the other one teaches. The fusion modules can
also be trained alone.

With a list of scores, targets are the photographs as they are, and nothing that is decoded is scored.
"""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..checkpoint import save_network
from ..errors import TrainingError
from ..image import from_network, tile, to_network
from ..models.code_restorer import CodeRestorer
from ..models.severity import SeverityNet
from ..restorer import Restorer, choose_codes
from .adversary import Adversary
from .autoencoder import Averaged
from .data import Sample
from .lookup import degraded, listed_pair, restored_pair
from .loop import update
from .losses import gradient_loss, psnr, psnr_loss
from .perceptual import PerceptualLoss
from .processes import draw_part
from .scores import ScoreList, check_told
from .window import draw_window, generate_window

GAN = 0.2
GAN_RAMP = 50  # steps
PERCEPTUAL = 0.2
QUALITY = 3.0
QUALITY_EVERY = 3  # steps, since faces must be generated whole to be scored
MAX_VARIED = 0.5  # share of a face's tokens; the trust region of `optimize_codes`
LOOKS_AT = (0.3, 0.8)  # fidelities that are to look like photographs; 1 is to be close


def both_targets(face: Tensor, seed: int) -> Sample:
    """A target of some quality, the degraded face, and the clean one."""
    return {**restored_pair(face, seed), "clean": face}


def listed_targets(face: Tensor, seed: int) -> Sample:
    """The face itself as a target for both halves, whose score is listed, and the degraded face."""
    return {**listed_pair(face, seed), "clean": face}


class FusionStage:
    """See the module's docstring. `network` comes from stage 2 and is changed.

    Args:
        fidelity_only: train the fusion modules alone, on whole batches; what w = 0 gives stays as it is, bit for bit.
        scores: of the faces; they are then the targets, and `metric` is not asked.
    """

    def __init__(
        self,
        network: CodeRestorer,
        metric: SeverityNet,
        perceptual: PerceptualLoss,
        seed: int = 0,
        *,
        fidelity_only: bool = False,
        scores: ScoreList | None = None,
    ) -> None:
        check_told(network.config, scores)
        torch.manual_seed(seed)
        self.scores = scores
        self.prepare = both_targets if scores is None else listed_targets
        self.network = network.requires_grad_(False)
        self.metric = metric.eval().requires_grad_(False)
        self.perceptual = perceptual
        self.fidelity_only = fidelity_only
        groups = [{"params": list(network.fuse_convs_dict.requires_grad_(True).parameters()), "lr": 5e-4}]
        if not fidelity_only:
            groups.append({"params": list(network.generator.requires_grad_(True).parameters()), "lr": 2e-4})
        self.average = Averaged(network)
        self.looks = Adversary(GAN, perceptual)
        self.likeness = Adversary(GAN, perceptual)
        self.modules: dict[str, nn.Module] = {
            "network": network,
            "average": self.average.module,
            "looks": self.looks.discriminator,
            "likeness": self.likeness.discriminator,
        }
        self.optimizers: dict[str, Optimizer] = {
            "fusion": AdamW(groups, betas=(0.8, 0.98), weight_decay=1e-3),
            "looks": self.looks.optimizer,
            "likeness": self.likeness.optimizer,
        }

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        self.metric.to(accelerator.device)
        self.perceptual.to(accelerator.device)

    def step(self, accelerator: Accelerator, batch: Sample, step: int) -> dict[str, Tensor]:
        half = 0 if self.fidelity_only else len(batch["lq"]) // 2
        if half == 0 and not self.fidelity_only:
            raise TrainingError(
                f"stage 3 halves its batches: they need at least 2 faces for each process, got {len(batch['lq'])}."
            )
        free, close = slice(0, half), slice(half, None)
        with torch.no_grad(), accelerator.autocast():
            wanted = torch.cat([batch["target"][free], batch["clean"][close]])
            score = batch["score"] if self.scores is not None else self.metric(wanted)
            z, skips = self.network.encode(to_network(batch["lq"]))
            z = self.network.condition(z, score)
            logits = self.network.logits(z, score)
            first = logits[close].argmax(2)
            indices = torch.cat([_vary(accelerator, logits[free].float(), step), first]) if half else first
            z_q = self.network.quantise(indices, self.network.config.alpha, like=z)
            skips = {side: skip[close] for side, skip in skips.items()}
        target = to_network(wanted)
        loss, values = self._close(accelerator, z_q[close], z[close], skips, target[close], score[close], step)
        if half:
            looks, more = self._free(accelerator, z_q[free], z[free], target[free], score[free], step)
            loss, values = loss + looks, values | more
        update(accelerator, self.optimizers["fusion"], loss)
        self.average.update(self.network, step)
        return values

    def _close(
        self,
        accelerator: Accelerator,
        z_q: Tensor,
        z: Tensor,
        skips: dict[int, Tensor],
        target: Tensor,
        score: Tensor,
        step: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The fusion modules' loss, and what to log: squared error at w = 1, looks the more the smaller w."""
        low, high = LOOKS_AT
        w = low + (high - low) * draw_part(accelerator, len(z_q), device=z_q.device)
        w[::2] = 1.0
        window = draw_window(self.network)
        wanted = window.cut(target)
        with accelerator.autocast(), _frozen(self.network.generator):
            face = generate_window(self.network, window, z_q, z, skips, w.to(z_q)[:, None, None, None], adain=True)
            likeness = self.perceptual(face, wanted)
        error = (face - wanted).abs().mean((1, 2, 3)) + gradient_loss(face, wanted)
        is_free = w < 1
        pixels = (0.1 * psnr_loss(face, wanted) + error).mean()
        loss = pixels + PERCEPTUAL * (likeness * is_free).mean()
        values = {"psnr": psnr(face[~is_free], wanted[~is_free]), "likeness": likeness.detach().mean()}
        values["gan_close"] = loss.new_zeros(())
        if is_free.any():
            last = self.network.fuse_convs_dict.get_parameter(f"{max(self.network.config.fusion)}.shift.2.weight")
            adversarial, more = self.likeness.loss(
                accelerator, face[is_free], wanted[is_free], score[is_free], window, loss, last
            )
            loss = loss + min(1.0, step / GAN_RAMP) * adversarial
            values["gan_close"] = more["gan"]
        return loss, values

    def _free(
        self, accelerator: Accelerator, z_q: Tensor, z: Tensor, target: Tensor, score: Tensor, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's loss at w = 0, and what to log."""
        window = draw_window(self.network)
        wanted = window.cut(target)
        with accelerator.autocast():
            face = generate_window(self.network, window, z_q, z, {}, 0.0, adain=True)
            likeness = self.perceptual(face, wanted).mean()
        small, small_wanted = (F.avg_pool2d(image, 4) for image in (face, wanted))
        loss = F.l1_loss(small, small_wanted) + gradient_loss(small, small_wanted, scales=2) + PERCEPTUAL * likeness
        values = {"looks": loss.detach()}
        adversarial, more = self.looks.loss(
            accelerator, face, wanted, score, window, loss, self.network.generator.last_layer
        )
        loss, values = loss + min(1.0, step / GAN_RAMP) * adversarial, values | more | {"quality": loss.new_zeros(())}
        if self.scores is None and step % QUALITY_EVERY == 0:
            with accelerator.autocast():
                whole = from_network(self.network.generate(z_q[:2], z[:2], {}, 0.0))
                quality = (self.metric(whole) - score[:2]).abs().mean()
            loss = loss + QUALITY * quality
            values["quality"] = QUALITY_EVERY * quality.detach()
        return loss, values

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Rows: degraded, quality 0.3 and 1 at fidelity 0, fidelity 0.5, 0.75 and 1, original."""
        restorer = Restorer(copy.deepcopy(self.average.module))
        lq = torch.stack([degraded(face.cpu(), i) for i, face in enumerate(faces)]).to(faces.device)
        features = restorer.encode(lq)
        codes = restorer.lookup(features, 1.0)
        rows = [restorer.decode(codes, features, w) for w in (0.0, 0.5, 0.75, 1.0)]
        return tile([lq, restorer.decode(restorer.lookup(features, 0.3), features), *rows, faces])

    def export(self, path: Path) -> None:
        save_network(self.average.module, path)


def _vary(accelerator: Accelerator, logits: Tensor, step: int) -> Tensor:
    """(B, N, K, books) -> codes (B, N, books): the likeliest, but on a random share of each face's tokens drawn ones."""
    share = MAX_VARIED * draw_part(accelerator, len(logits), 1, 1, device=logits.device)
    varies = draw_part(accelerator, *logits.shape[:2], device=logits.device)[..., None] < share
    seed = step * accelerator.num_processes + accelerator.process_index
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
