"""A score for a restorer that was trained without one: its adapter learns, the restorer stays as it is.

A face decoded from the chosen codes must score what was asked for, by any metric that has a gradient (straight through
the choice; nearest codes have logits -d / tau). That alone would find what the metric likes and people do not, contrast
above all, so the picture may not stray from the base's own answer in what is coarse; and where a teacher knows the
codes of good faces, the choice is also held to the codes of a face of the asked score by cross-entropy, as in stage 2.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..adapters import AdaptedNetwork, ScoreAdapter, new_adapter
from ..errors import TrainingError
from ..image import from_network, tile, to_network
from ..layers.straight_through import straight_through
from ..optimize.objective import as_score, low_pass
from ..quality import Metric
from ..restorer import Restorer, check_range
from .autoencoder import Averaged
from .data import Sample
from .flaws import imperfect
from .lookup import SMOOTHING, degraded, restored_pair
from .loop import update
from .processes import draw_part
from .scores import RANGE
from .teacher import Teacher

ANCHOR = 5.0  # on the mean difference of coarse pixels in [0, 1], beside an error of scores in [0, 1]
DECODED = 2  # faces of a batch that are decoded and scored
RATE = 1e-3


class AdapterStage:
    """See the module's docstring.

    Args:
        base: what the adapter is for; not changed.
        metrics: whose mean score is told.
        teacher: from `find_teacher`.
        quality_weight: of the score's error; 0, where a teacher suffices, takes metrics without a gradient, too.
        recipe: what the adapter's card says about its training.
    """

    prepare = staticmethod(restored_pair)
    scores = None

    def __init__(
        self,
        base: Restorer,
        metrics: Sequence[Metric],
        teacher: Teacher | None = None,
        seed: int = 0,
        quality_weight: float = 1.0,
        recipe: str = "",
    ) -> None:
        check_range("quality_weight", quality_weight, 0)
        if teacher is None and quality_weight == 0:
            raise TrainingError(
                "without a teacher an adapter learns from the metric alone: give a quality weight above 0."
            )
        adapter = new_adapter(base, seed)
        self.base, self.metrics, self.teacher, self.quality_weight = base, metrics, teacher, quality_weight
        self.score = as_score(list(metrics))
        names = " + ".join(metric.name for metric in metrics)
        self.card = replace(adapter.card, metric=names, recipe=recipe)
        self.network = AdaptedNetwork(base.network, adapter.network)
        self.average = Averaged(adapter.network)
        self.modules: dict[str, nn.Module] = {
            "adapter": adapter.network,
            "average": self.average.module,
            "subject": _Subject(f"a {self.card.family} of codebook {self.card.codebook_id}, scored by {names}"),
        }
        self.optimizers: dict[str, Optimizer] = {
            "adapter": AdamW(adapter.network.parameters(), RATE, betas=(0.9, 0.98), weight_decay=1e-3)
        }

    @torch.no_grad()
    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        """Find the range of scores that targets have."""
        self.base.to(accelerator.device)
        for metric in self.metrics:
            metric.to(accelerator.device)
        targets = torch.stack([imperfect(face.cpu(), number) for number, face in enumerate(faces)]).to(faces)
        scores = torch.cat([self.score(part) for part in targets.split(8)]).float()
        low, high = (round(scores.quantile(share).clamp(0, 1).item(), 4) for share in RANGE)
        if not low < high:
            raise TrainingError(f"{self.card.metric} gives all training faces the score {low:.3f}: it cannot be told.")
        self.card = replace(self.card, score_range=(low, high))

    def step(self, accelerator: Accelerator, batch: Sample, step: int) -> dict[str, Tensor]:
        with torch.no_grad(), accelerator.autocast():
            score, codes = self._ask(accelerator, batch)
            z, skips = self.base.network.encode(to_network(batch["lq"]))
        loss, values = score.new_zeros(()), {"score": score.mean()}
        with accelerator.autocast():
            told = self.network.condition(z, score)
            logits = self.network.logits(told, score).float() if self.base.supports.codes else None
            if self.quality_weight > 0:
                few = slice(0, DECODED)
                seen = z[few], {side: skip[few] for side, skip in skips.items()}
                face = self._decode(None if logits is None else logits[few], told[few], *seen, score[few])
                values["quality"] = (self.score(face) - score[few]).abs().mean()
                if not values["quality"].requires_grad:
                    raise TrainingError(f"{self.card.metric} has no gradient: use another metric, or a teacher alone.")
                values["strayed"] = (low_pass(face) - low_pass(self._own(*seen))).abs().mean()
                loss = self.quality_weight * values["quality"] + ANCHOR * values["strayed"]
        if codes is not None and logits is not None:
            values["index"] = F.cross_entropy(logits[..., 0].transpose(1, 2), codes, label_smoothing=SMOOTHING)
            values["accuracy"] = (logits[..., 0].argmax(2) == codes).float().mean()
            loss = loss + values["index"]
        update(accelerator, self.optimizers["adapter"], loss)
        self.average.update(self.network.modulation, step)
        return {name: value.detach() for name, value in values.items()}

    def _ask(self, accelerator: Accelerator, batch: Sample) -> tuple[Tensor, Tensor | None]:
        """Scores (B,) to ask for; and, where a teacher knows them, the codes (B, N) of faces of these scores."""
        if self.teacher is None:
            low, high = self.card.score_range
            return low + (high - low) * draw_part(accelerator, len(batch["lq"]), device=batch["lq"].device), None
        return self.score(batch["target"]).float(), self.teacher(to_network(batch["target"]))

    def _decode(
        self, logits: Tensor | None, told: Tensor, z: Tensor, skips: dict[int, Tensor], score: Tensor
    ) -> Tensor:
        """Faces in [0, 1] from the likeliest codes, with a gradient to the logits; without codes, from what was seen."""
        z_q, config = z, self.base.config
        if logits is not None:
            tau = 1.0 if config.lookup_layers else logits.detach().std(2, keepdim=True).mean()
            chosen = self.network.quantise(logits.argmax(2), config.alpha, like=logits)
            z_q = straight_through(chosen, self.network.mix((logits / tau).softmax(2), config.alpha))
        with self.network.telling(score):
            return from_network(self.network.generate(z_q, told, skips, 0.0, self.base.supports.adain))

    @torch.no_grad()
    def _own(self, z: Tensor, skips: dict[int, Tensor]) -> Tensor:
        """What the base makes of the same faces."""
        network, config = self.base.network, self.base.config
        z_q = network.quantise(network.logits(z, None).argmax(2), config.alpha, like=z) if network.codebooks else z
        return from_network(network.generate(z_q, z, skips, 0.0, self.base.supports.adain))

    def _result(self) -> ScoreAdapter:
        return ScoreAdapter(self.card, copy.deepcopy(self.average.module))

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Rows: degraded, the base's answer, quality 0, 0.5 and 1, original."""
        restorer = self._result().attach(self.base)
        lq = torch.stack([degraded(face.cpu(), i) for i, face in enumerate(faces)]).to(faces.device)
        return tile([lq, *(restorer.restore(lq, quality, fidelity=0.0) for quality in (None, 0.0, 0.5, 1.0)), faces])

    def export(self, path: Path) -> None:
        self._result().save(path)


class _Subject(nn.Module):
    """No weights: a line by which a checkpoint knows what it is about, and is not gone on with for anything else."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def get_extra_state(self) -> str:
        return self.line

    def set_extra_state(self, state: str) -> None:
        if state != self.line:
            raise ValueError(f"it is about {state}, not {self.line}")
