"""Stage 1: the dual codebook autoencoder.

    z = E(x);  z_q = common[k] + alpha * [score(x) > tau] * hq[k'];  x' = G(z_q)

The faces are of all qualities, evenly: a code can only mean a quality that was seen. (With a list of scores they are the
photographs as they are, and tau is a quantile of the list.) Losses: L1, gradients and features
(perceptual), commitment, and from `GAN_FROM` on a hinge GAN with VQGAN's adaptive weight, whose discriminator is told
the score. HQ dropout: on a share of the HQ images the HQ+ part is left out, so the common codes alone always make a
whole face; their pictures are not shown to the discriminator.

The file of a later stage has lost this stage's encoder: its own is made for degraded faces. `encoder_only` finds one
again, by reconstruction and commitment, for codebooks and a generator that stay as they are.
"""

import copy
from pathlib import Path
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..checkpoint import save_network
from ..errors import TrainingError
from ..image import from_network, tile, to_network
from ..layers.straight_through import straight_through
from ..models.code_restorer import CodeRestorer
from ..models.severity import SeverityNet
from .adversary import Adversary
from .data import Sample
from .flaws import imperfect
from .loop import update
from .losses import psnr, reconstruction_loss
from .perceptual import PerceptualLoss
from .processes import draw_part, gather, share_state
from .quantiser import DualQuantiser, perplexity
from .scores import ScoreList, check_told
from .window import draw_window, generate_window

COMMITMENT = 0.25
PERCEPTUAL = 0.15
GAN = 0.8
HQ_DROPOUT = 0.1
HQ_QUANTILE = 0.25  # of the clean training faces: three quarters of them count as high quality
QUANTISE_FROM = 0.05  # of the run: the encoder first learns to be invertible
GAN_FROM = 0.3
GAN_FROM_TRAINED = 0.1  # where the run starts from trained weights
GAN_RAMP = 0.1  # of the run, from nothing to its full weight
EMA = 0.998
OF_CODES = ("quantize", "quantize_aesthetic", "idx_pred_layer")  # what means nothing to another codebook


M = TypeVar("M", bound=nn.Module)


class Averaged(Generic[M]):
    """Exponential moving average of a network's weights (Polyak), kept in a copy."""

    def __init__(self, module: M) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(EMA, (1 + step) / (10 + step))
        for average, value in zip(self.module.parameters(), module.parameters(), strict=True):
            average.lerp_(value, 1 - decay)


@torch.no_grad()
def hq_threshold(metric: SeverityNet, faces: Tensor, scores: ScoreList | None) -> float:
    """The score above which a face counts as high quality."""
    return metric(faces).quantile(HQ_QUANTILE).item() if scores is None else scores.quantile(HQ_QUANTILE)


def imperfect_target(face: Tensor, seed: int) -> Sample:
    """A target of some quality."""
    return {"target": imperfect(face, seed)}


def listed_target(face: Tensor, seed: int) -> Sample:
    """The face itself as a target, whose score is listed."""
    return {"target": face}


def score_targets(metric: SeverityNet, batch: Sample) -> Tensor:
    """The targets' scores (B,): the listed ones, where there are such."""
    return batch["score"] if "score" in batch else metric(batch["target"])


def borrow(network: CodeRestorer, other: CodeRestorer) -> None:
    """Give a new network the weights of another one wherever names and shapes agree, but for codes and what names them."""
    own = {name: value.shape for name, value in network.state_dict().items()}
    taken = {
        name: value
        for name, value in other.state_dict().items()
        if own.get(name) == value.shape and name.split(".")[0] not in OF_CODES
    }
    network.load_state_dict(taken, strict=False)


class AutoencoderStage:
    """See the module's docstring.

    Args:
        is_trained: the network comes from an earlier run and is trained on.
        new_codes: its codebooks do not; they are drawn from the first faces.
        encoder_only: train nothing but the encoder of such a network.
        scores: of the faces; they are then the targets, and `metric` is not asked.
    """

    def __init__(
        self,
        network: CodeRestorer,
        metric: SeverityNet,
        perceptual: PerceptualLoss,
        steps: int,
        seed: int = 0,
        is_trained: bool = False,
        new_codes: bool = False,
        encoder_only: bool = False,
        scores: ScoreList | None = None,
    ) -> None:
        if encoder_only and (new_codes or not is_trained):
            raise TrainingError(
                "an encoder alone can only be trained for a network that is trained already, with its codes."
            )
        check_told(network.config, scores)
        torch.manual_seed(seed)
        self.scores = scores
        self.prepare = imperfect_target if scores is None else listed_target
        self.steps = steps
        self.network = network
        self.encoder_only = encoder_only
        self.quantiser = DualQuantiser(network)
        if is_trained and not new_codes:
            self.quantiser.adopt()
        self.gan_from = 1.0 if encoder_only else GAN_FROM_TRAINED if is_trained else GAN_FROM  # 1 = never
        for book in network.codebooks:
            book.requires_grad_(False)
        self.perceptual = perceptual
        self.adversary = Adversary(GAN, perceptual)
        self.average = Averaged(self.network)
        self.metric = metric.eval().requires_grad_(False)
        learnt = list(self.network.encoder.parameters())
        if encoder_only:
            network.generator.requires_grad_(False)
        else:
            learnt += self.network.generator.parameters()
        self.modules: dict[str, nn.Module] = {
            "network": self.network,
            "quantiser": self.quantiser,
            "discriminator": self.adversary.discriminator,
            "average": self.average.module,
        }
        self.optimizers: dict[str, Optimizer] = {
            "network": AdamW(learnt, 4e-4, betas=(0.8, 0.99), weight_decay=1e-4),
            "discriminator": self.adversary.optimizer,
        }
        self.threshold = 0.0

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        self.threshold = hq_threshold(self.metric.to(accelerator.device), faces, self.scores)
        self.perceptual.to(accelerator.device)

    def step(self, accelerator: Accelerator, batch: Sample, step: int) -> dict[str, Tensor]:
        with torch.no_grad(), accelerator.autocast():
            score = score_targets(self.metric, batch)
            target = to_network(batch["target"])
        is_hq = (score > self.threshold) & (draw_part(accelerator, len(score), device=score.device) >= HQ_DROPOUT)
        progress = step / self.steps
        values: dict[str, Tensor] = {}
        with accelerator.autocast():
            z, _ = self.network.encode(target)
        z = z.float()
        z_all = gather(accelerator, z.detach())  # the books learn from the faces of all processes
        commitment = z.new_zeros(())
        z_used = z
        if progress >= QUANTISE_FROM or self.quantiser.is_initialised:
            if not self.quantiser.is_initialised:
                self.quantiser.initialise(z_all)
            indices = self.quantiser.indices(z, is_hq)
            z_q = self.network.quantise(indices, self.network.config.alpha, like=z)
            commitment = self.quantiser.commitment(z, z_q, indices) / z_all.var()
            z_used = straight_through(z_q, z)
            indices, of_hq = gather(accelerator, indices), gather(accelerator, is_hq)
            if not self.encoder_only:
                self.quantiser.update(z_all, indices)
                # Sums on a GPU differ by rounding, and a code may be dead in one process only.
                share_state(self.quantiser)
            values["perplexity_common"] = perplexity(indices[..., -1], self.network.config.num_codes)
            values["perplexity_hq"] = perplexity(indices[of_hq][..., 0], self.network.config.num_codes)
        window = draw_window(self.network)
        target = window.cut(target)
        with accelerator.autocast():
            output = generate_window(self.network, window, z_used, z, {}, 0.0, adain=False)
            likeness = self.perceptual(output, target).mean()
        reconstruction = reconstruction_loss(output, target) + PERCEPTUAL * likeness
        loss = reconstruction + COMMITMENT * commitment
        # Where the HQ+ part was dropped from a face of high quality, the common part is not to pass for one.
        shown = is_hq | (score <= self.threshold)
        if accelerator.num_processes > 1 and not shown.any():
            shown = torch.ones_like(shown)  # every process must take part
        if progress >= self.gan_from and shown.any():
            adversarial, logged = self.adversary.loss(
                accelerator,
                output[shown],
                target[shown],
                score[shown],
                window,
                reconstruction,
                self.network.generator.last_layer,
            )
            loss = loss + min(1.0, (progress - self.gan_from) / GAN_RAMP) * adversarial
            values |= logged
        update(accelerator, self.optimizers["network"], loss)
        self.average.update(self.network, step)
        for average, book in zip(self.average.module.codebooks, self.network.codebooks, strict=True):
            average.load_state_dict(book.state_dict())  # already moving averages
        zero: Tensor = loss.new_zeros(())
        names = ("perplexity_common", "perplexity_hq", "gan", "gan_weight", "discriminator")
        return {
            "l1": F.l1_loss(output.detach(), target),
            "psnr": psnr(output, target),
            "perceptual": likeness.detach(),
            "commitment": commitment.detach(),
            "hq_share": is_hq.float().mean(),
            **{name: values.get(name, zero) for name in names},
        }

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Rows: face, reconstruction from both books, from the common book alone."""
        network = self.average.module
        z, _ = network.encode(to_network(faces))
        rows = [faces]
        for is_hq in (True, False):
            indices = self.quantiser.indices(z, torch.full((len(faces),), is_hq, device=faces.device))
            z_q = network.quantise(indices, network.config.alpha, like=z)
            rows.append(from_network(network.generator(z_q, network.fuse_convs_dict, {}, 0.0)))
        return tile(rows)

    def export(self, path: Path) -> None:
        save_network(self.average.module, path)
