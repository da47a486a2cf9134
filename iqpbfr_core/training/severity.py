"""Train the built-in quality model: how good is this face, on a scale on which training pictures are spread evenly?

Two kinds of teaching. Known grades: a photograph's sharpness gives it a rank among the clean training faces, .6 to 1,
and explicit flaws take a known share of that away. Known orders: what a restorer makes of a face is worse than the
face, with some of its codes drawn at random it is worse still, and what a search makes that climbs this very model is
no better than where it began (a ranking loss, as in Liu et al. 2017, RankIQA, arXiv 1707.08347). At the end, scores are
calibrated: a score is the share of training pictures that are worse.
"""

import copy
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..image import tile, write_atomically
from ..models.code_restorer import CodeRestorer
from ..models.severity import SeverityNet
from .flaws import KINDS, Strengths, flawed, grade, imperfect
from .loop import update
from .mistakes import Mistakes

WORST_CLEAN = 0.6  # the score of the softest clean face
MARGIN = 0.05  # by which an order must hold
MADE = 4  # faces of a batch that a restorer makes anew
SEARCH_EVERY = 10  # steps between searches


def sharpness(face: Tensor) -> Tensor:
    """Energy of the finest detail of (3, H, W), relative to that of coarser detail, over the middle of an aligned face."""
    luma = face.mean(0)[None, None]
    half = F.avg_pool2d(luma, 2)
    middle = tuple(slice(n // 4, 3 * n // 4) for n in half.shape[2:])

    def energy(x: Tensor) -> Tensor:
        return ((x - F.avg_pool2d(x, 3, 1, 1)) ** 2)[..., middle[0], middle[1]].mean()

    finest = (luma - F.interpolate(half, scale_factor=2, mode="bilinear")) ** 2
    return (F.avg_pool2d(finest, 2)[..., middle[0], middle[1]].mean() / (energy(half) + 1e-6)).log()


def draw_strengths(generator: torch.Generator) -> Strengths:
    """Flaws to be graded: one kind (55 %) or two to four (45 %)."""
    u = torch.rand(4 + len(KINDS), generator=generator).tolist()
    order = sorted(range(len(KINDS)), key=lambda i: u[4 + i])
    if u[0] < 0.55:
        return {KINDS[order[0]]: u[1]}
    chosen = order[: 2 + math.floor(u[2] * 3)]
    return {KINDS[i]: 0.8 * u[4 + i] ** 0.5 * u[1] for i in chosen}


def graded(face: Tensor, seed: int) -> dict[str, Tensor]:
    """A face clean, flawed, and with the same flaws weaker: images (3, 3, H, W), what is left (3,), and its sharpness."""
    generator = torch.Generator().manual_seed(seed)
    strong = draw_strengths(generator)
    factor = torch.rand(1, generator=generator).item()
    weak = {kind: factor * strength for kind, strength in strong.items()}
    images = torch.stack([face, flawed(face, strong, seed), flawed(face, weak, seed)])
    return {"images": images, "left": torch.tensor([1.0, grade(strong), grade(weak)]), "sharpness": sharpness(face)}


def order_loss(better: Tensor, worse: Tensor, margin: Tensor | float) -> Tensor:
    """Mean of what is missing until `better` scores exceed `worse` ones by `margin`."""
    return F.relu(margin - (better - worse)).mean()


class SeverityStage:
    """Stage of `iqpbfr train metric`; see the module's docstring.

    Args:
        generator: a restorer whose mistakes are shown; None = photographs' flaws and imitated ones only.
        start_from: a network to train on.
    """

    prepare = staticmethod(graded)
    scores = None

    def __init__(
        self, seed: int = 0, generator: CodeRestorer | None = None, start_from: SeverityNet | None = None
    ) -> None:
        torch.manual_seed(seed)
        self.network = start_from or SeverityNet()
        self.network.requires_grad_(True).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.calibrate(torch.linspace(0, 1, 2))
        self.mistakes = None if generator is None else Mistakes(generator)
        self.modules: dict[str, nn.Module] = {"network": self.network}
        if self.mistakes is not None:
            self.modules["mistakes"] = self.mistakes
        self.optimizers: dict[str, Optimizer] = {"network": AdamW(self.network.parameters(), 1.5e-3, weight_decay=1e-2)}
        self.ranks = torch.zeros(1)
        self.calibration = torch.zeros(1)

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        """Rank the clean training faces by sharpness, and keep some to calibrate by."""
        if self.mistakes is not None:
            self.mistakes.restorer.to(accelerator.device)
        self.ranks = torch.stack([sharpness(face) for face in faces]).sort().values
        self.calibration = faces

    def step(self, accelerator: Accelerator, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        photographs = batch["images"].transpose(0, 1).flatten(0, 1)  # clean, strongly flawed, weakly flawed
        rank = torch.searchsorted(self.ranks, batch["sharpness"]) / len(self.ranks)
        clean = WORST_CLEAN + (1 - WORST_CLEAN) * rank
        left = batch["left"].T  # (3, B)
        parts, shares = [photographs], None
        if self.mistakes is not None:
            made, shares = self._mistakes(accelerator, self.mistakes, batch["images"][:MADE, 0], step)
            parts += [made, *self.mistakes.found(MADE, step)]
        self.network.train()
        with accelerator.autocast():
            scores = self.network(torch.cat(parts).contiguous(memory_format=torch.channels_last))
        best, worst, middle = scores[: len(photographs)].chunk(3)
        level = F.l1_loss(scores[: len(photographs)], (clean * left).flatten())
        order = order_loss(middle, worst, 0.5 * clean * (left[2] - left[1]))
        order = order + order_loss(best, middle, 0.5 * clean * (1 - left[2]))
        if self.mistakes is not None and shares is not None:
            plain, varied, found, start = scores[len(photographs) :].split([len(shares)] * 2 + [MADE] * 2)
            order = order + order_loss(best[:MADE], plain, MARGIN) + order_loss(plain, varied, MARGIN + 0.5 * shares)
            order = order + order_loss(start, found, MARGIN) * (self.mistakes.count > 0)
        update(accelerator, self.optimizers["network"], level + order)
        return {"l1": level.detach(), "order": order.detach()}

    def _mistakes(
        self, accelerator: Accelerator, mistakes: Mistakes, faces: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """What the restorer makes of faces now; now and then it also searches for what this network likes too much."""
        with accelerator.autocast():
            if step % SEARCH_EVERY == SEARCH_EVERY - 1:
                mistakes.search(faces, self.network.eval())
            return mistakes.made(faces, step)

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Columns: a face; rows: one kind of flaw each, ever stronger, darkened by its score's error."""
        self.network.eval()
        strengths = torch.linspace(0, 1, len(faces)).tolist()
        rows = []
        for kind in KINDS:
            images = torch.stack(
                [flawed(f.cpu(), {kind: s}, i) for i, (f, s) in enumerate(zip(faces, strengths, strict=True))]
            )
            scores = self.network(images.to(faces.device))
            error = (scores - (1 - torch.tensor(strengths, device=faces.device)) * scores[0]).abs()
            rows.append(images.to(faces.device) * (1 - error[:, None, None, None]))
        return tile(rows)

    @torch.no_grad()
    def export(self, path: Path) -> None:
        """The network, calibrated such that the scores of training pictures fill [0, 1] evenly."""
        network = copy.deepcopy(self.network).eval()
        targets = torch.stack([imperfect(face.cpu(), i) for i, face in enumerate(self.calibration)])
        scores = [network(part.to(self.calibration.device)) for part in targets.split(16)]
        network.calibrate(torch.cat(scores))
        weights = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
        write_atomically(path, save({k: v.contiguous() for k, v in weights.items()}))
