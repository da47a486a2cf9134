"""Stage 2: predict the codes of a face of a wanted quality from a degraded one.

Codebooks and generator are frozen. The target is a face of some score, the input a degraded copy of the clean one, and
lookup and features are told the target's score. Losses (CodeFormer eq. 4): cross-entropy on both heads (0.5), and L2
between the features, once they are told, and the target's quantised ones (1.0): AdaIN takes its statistics from them,
and they must be those of the wanted face, not of the best one. A tenth of the scores is dropped, which trains the null
condition.

With a quality weight, an image decoded from the chosen codes must score what was asked for: |asked - measured|,
straight through the choice to the lookup. At a score of 1 that is the IQA loss of IQPIR's third stage (Xiao et al.
2026, arXiv 2603.29773); below it, a face may not be better than it was told to be, either.

With a list of scores targets are the photographs as they are, and the score is the listed one.
"""

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..checkpoint import save_network
from ..degradation import apply, draw
from ..errors import TrainingError
from ..image import from_network, tile, to_network
from ..layers.straight_through import straight_through
from ..models.code_restorer import CodeRestorer
from ..models.severity import SeverityNet
from ..restorer import Restorer, check_range
from .autoencoder import Averaged, hq_threshold, score_targets
from .data import Sample
from .flaws import imperfect
from .loop import update
from .processes import draw_part, gather
from .quantiser import DualQuantiser
from .scores import ScoreList, check_told

SCORE_DROPOUT = 0.1
INDEX_WEIGHT = 0.5
SMOOTHING = 0.1  # of the codes' labels: neighbours of the nearest code are nearly as right
LEARNT = ("encoder", "feature_modulation", "feat_emb", "position_emb", "ft_layers", "idx_pred_layer", "score_embed")
SPREAD_WEIGHT = 0.5  # AdaIN takes the spread of the features, and the L2 alone shrinks it: contrast would fade
INPUTS = ("mild", "full", "moderate", "heavy")  # presets of degradation
SCORED = 2  # faces of a batch that are decoded and scored, where there is a quality weight


def degraded(face: Tensor, seed: int) -> Tensor:
    """An input for training: (3, H, W) in [0, 1], a quarter of the samples by each of `INPUTS`.

    Which one is drawn, not counted: seeds go up within a batch, and a place in it must say nothing of the input.
    """
    preset = INPUTS[int(torch.randint(len(INPUTS), (1,), generator=torch.Generator().manual_seed(seed + 2)))]
    return apply(face[None], [draw(preset, seed, face.shape[-1])])[0]


def restored_pair(face: Tensor, seed: int) -> Sample:
    """A target of some quality, and the degraded face it is to be restored from."""
    return {"target": imperfect(face, seed), "lq": degraded(face, seed)}


def listed_pair(face: Tensor, seed: int) -> Sample:
    """The face itself as a target, whose score is listed, and a degraded copy to restore it from."""
    return {"target": face, "lq": degraded(face, seed)}


class LookupStage:
    """See the module's docstring.

    Args:
        network: from stage 1; it is changed, and its encoder finds the codes to learn.
        quality_weight: 0 = no such loss.
        start_from: an earlier result of this stage, whose encoder and lookup are trained on.
        scores: of the faces; they are then the targets, and `metric` is not asked.
    """

    def __init__(
        self,
        network: CodeRestorer,
        metric: SeverityNet,
        seed: int = 0,
        quality_weight: float = 0.0,
        start_from: CodeRestorer | None = None,
        scores: ScoreList | None = None,
    ) -> None:
        check_told(network.config, scores)
        check_range("quality_weight", quality_weight, 0)
        if scores is not None and quality_weight > 0:
            raise TrainingError("a list scores no decoded faces: a quality weight needs the metric itself.")
        torch.manual_seed(seed)
        self.scores = scores
        self.prepare = restored_pair if scores is None else listed_pair
        self.network = network.requires_grad_(False)
        self.quality_weight = quality_weight
        self.target_encoder = copy.deepcopy(network.encoder).eval()
        self.quantiser = DualQuantiser(network)
        self.metric = metric.eval().requires_grad_(False)
        if start_from is not None:
            _adopt(network, start_from)
        learnt = {name: p for name, p in network.named_parameters() if name.split(".")[0] in LEARNT}
        encoder = [p for name, p in learnt.items() if name.startswith("encoder.")]
        transformer = [p for name, p in learnt.items() if not name.startswith("encoder.")]
        for parameter in transformer + encoder:
            parameter.requires_grad_(True)
        self.average = Averaged(network)
        self.modules: dict[str, nn.Module] = {
            "network": network,
            "target_encoder": self.target_encoder,
            "average": self.average.module,
        }
        groups = [{"params": encoder, "lr": 2e-4}, {"params": transformer, "lr": 5e-4}]
        self.optimizers: dict[str, Optimizer] = {"lookup": AdamW(groups, betas=(0.9, 0.98), weight_decay=1e-3)}
        self.threshold = 0.0

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        self.threshold = hq_threshold(self.metric.to(accelerator.device), faces, self.scores)

    def step(self, accelerator: Accelerator, batch: Sample, step: int) -> dict[str, Tensor]:
        with torch.no_grad(), accelerator.autocast():
            score = score_targets(self.metric, batch)
            z, _ = self.target_encoder(to_network(batch["target"]))
            indices = self.quantiser.indices(z, score > self.threshold)
            wanted = self.network.quantise(indices, self.network.config.alpha, like=z.float())
            wanted_all = gather(accelerator, wanted)
        keep = (draw_part(accelerator, len(score), device=score.device) >= SCORE_DROPOUT).float()
        with accelerator.autocast():
            z_lq, _ = self.network.encode(to_network(batch["lq"]))
            z_lq = self.network.condition(z_lq, score, keep)
            logits = self.network.logits(z_lq, score, keep).float()
        feature = F.mse_loss(z_lq.float(), wanted) / wanted_all.var()
        spread = F.l1_loss(z_lq.float().std((2, 3)), wanted.std((2, 3))) / wanted_all.std()
        index = F.cross_entropy(logits.permute(0, 2, 1, 3), indices, label_smoothing=SMOOTHING)
        loss = INDEX_WEIGHT * index * self.network.config.num_books + feature + SPREAD_WEIGHT * spread
        values: dict[str, Tensor] = {}
        if self.quality_weight > 0:
            with accelerator.autocast():
                quality = self._quality_error(*(x[:SCORED] for x in (logits, z_lq, score, keep)))
            loss = loss + self.quality_weight * quality
            values["quality"] = quality.detach()
        update(accelerator, self.optimizers["lookup"], loss)
        self.average.update(self.network, step)
        right = (logits.argmax(2) == indices).float().mean((0, 1))
        return {
            "index": index.detach(),
            "feature": feature.detach(),
            "spread": spread.detach(),
            "accuracy_common": right[-1],
            "accuracy_hq": right[0],
            "score": score.mean(),
            **values,
        }

    def _quality_error(self, logits: Tensor, z_lq: Tensor, score: Tensor, keep: Tensor) -> Tensor:
        """How far decoded faces are from the score that was asked for, on average; a dropped score asks for nothing.

        The encoder is left to the other losses: only the lookup answers for its choice.
        """
        alpha = self.network.config.alpha
        chosen = self.network.quantise(logits.argmax(2), alpha, like=logits)
        z_q = straight_through(chosen, self.network.mix(logits.softmax(2), alpha))
        image = self.network.generate(z_q, z_lq.detach(), {}, 0.0)
        return (keep * (score - self.metric(from_network(image))).abs()).mean()

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Rows: degraded, restored at quality 0, 0.3, 0.6 and 1, original."""
        restorer = Restorer(copy.deepcopy(self.average.module))
        lq = torch.stack([degraded(face.cpu(), i) for i, face in enumerate(faces)]).to(faces.device)
        features = restorer.encode(lq)
        rows = [restorer.decode(restorer.lookup(features, quality), features) for quality in (0.0, 0.3, 0.6, 1.0)]
        return tile([lq, *rows, faces])

    def export(self, path: Path) -> None:
        save_network(self.average.module, path)


def _adopt(network: CodeRestorer, earlier: CodeRestorer) -> None:
    """Give `network` what this stage taught an earlier one."""
    if earlier.config != network.config:
        raise TrainingError(
            f"start_from is another architecture ({earlier.config}) than the network ({network.config})."
        )
    learnt = {name: value for name, value in earlier.state_dict().items() if name.split(".")[0] in LEARNT}
    network.load_state_dict(learnt, strict=False)
