"""A detector that degradation does not put off: of a degraded picture it learns to say what it said of the clean one.

Self-distillation (Hinton et al. 2015, arXiv 1503.02531). The answers are the network's own before training, so nothing
has to be labelled, whole photographs serve beside composed scenes, and half of every batch is clean: what is known stays.
"""

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..degradation import apply
from ..faces.anchors import SIZE_VARIANCE, anchor_boxes
from ..faces.detection import Detector
from ..faces.selection import preview
from ..image import from_pil, tile
from ..models.retinaface import RetinaFace, to_retinaface
from .autoencoder import Averaged
from .data import Sample
from .detector import save_detector, scene_number
from .loop import update
from .scenes import LEAST_LEFT, Portrait, Scenes, face_boxes, pixels_lost, read_picture, wrecking

SIZE = 320  # pixels of a picture's side
_SURE, _NOTHING = 0.5, 0.1  # scores from which, and up to which, the clean picture's answer is a face or none
_NEGATIVES = 10  # backgrounds per face, those on which the answers differ most first
_LEAST_FACES = 4  # in a batch, by which losses are divided
_ANSWERS = {"degraded": (2.0, 1.0, 2.0), "clean": (2.0, 2.0, 4.0)}  # weights of classes, boxes and landmarks


class Pictures:
    """Picture number n (3, SIZE, SIZE) in [0, 1] and the width of a face in it, in pixels: composed scenes and, every
    other one, a whole photograph on the background of a scene."""

    def __init__(self, scenes: Scenes, whole: Sequence[Portrait]) -> None:
        self.scenes, self.whole = scenes, list(whole)

    def __getitem__(self, number: int) -> tuple[Tensor, float]:
        rng = np.random.default_rng((self.scenes.seed + 1, number % 2**32))
        if self.whole and rng.random() < 0.5:
            return self._photograph(rng)
        scene = self.scenes[number]
        widths = (scene.boxes[:, 2] - scene.boxes[:, 0]).tolist() or [rng.uniform(30, 200)]
        return scene.image, widths[rng.integers(len(widths))]

    def _photograph(self, rng: np.random.Generator) -> tuple[Tensor, float]:
        portrait = self.whole[rng.integers(len(self.whole))]
        picture, box = read_picture(portrait.file), face_boxes(portrait.landmarks[None])[0]
        low, high = self.scenes.recipe.widths
        scale = math.exp(rng.uniform(math.log(low), math.log(high))) / (box[2] - box[0])
        size = [max(8, round(side * scale)) for side in picture.size]
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=2)
        middle = scale * (box[:2] + box[2:]) / 2
        if rng.random() < 0.5:
            picture, middle = ImageOps.mirror(picture), np.array([picture.width - middle[0], middle[1]])
        canvas = self.scenes.background(rng)
        corner = rng.uniform(0.3, 0.7, 2) * canvas.size - middle
        canvas.paste(picture, (round(corner[0]), round(corner[1])))
        return from_pil(canvas)[0], scale * (box[2] - box[0])


class SteadyStage:
    """Stage of `iqpbfr train detector --steady`.

    Args:
        pictures: what to look at, clean and degraded as `full` degrades a face in it.
        network: a trained one; all of it is trained on.
        rate: peak learning rate.
        caution: as of DetectorStage.
    """

    prepare = staticmethod(scene_number)
    scores = None

    def __init__(
        self, pictures: Pictures, network: RetinaFace, rate: float = 3e-4, caution: float = 0.0, seed: int = 0
    ) -> None:
        torch.manual_seed(seed)
        self.pictures, self.caution = pictures, caution
        self.network = network.float().eval().requires_grad_(True)  # its normalisation stays as it was trained
        self.teacher = copy.deepcopy(self.network).requires_grad_(False)
        self.average = Averaged(self.network)
        self.modules: dict[str, nn.Module] = {"network": self.network, "average": self.average.module}
        self.modules["teacher"] = self.teacher  # a resumed run has the first one's answers
        self.optimizers: dict[str, Optimizer] = {"network": AdamW(self.network.parameters(), rate, weight_decay=1e-4)}

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        """Nothing to prepare: the pictures have faces of their own."""

    def step(self, accelerator: Accelerator, batch: Sample, step: int) -> dict[str, Tensor]:
        clean, degraded, lost = self._draw(batch["number"].tolist())
        clean, degraded, lost = (x.to(accelerator.device) for x in (clean, degraded, lost))
        anchors = anchor_boxes(self.network.config, SIZE, SIZE, clean.device)
        self.network.eval()
        with torch.no_grad():
            wanted = self.teacher(to_retinaface(clean))
        with accelerator.autocast():
            outputs = self.network(to_retinaface(torch.cat([degraded, clean])))
        halves = zip(*(output.float().chunk(2) for output in outputs), strict=True)
        losses = {
            "degraded": answer_losses(next(halves), wanted, anchors, lost),
            "clean": answer_losses(next(halves), wanted, anchors, torch.ones_like(lost)),
        }
        loss = sum(
            weight * part
            for kind, parts in losses.items()
            for weight, part in zip(_ANSWERS[kind], parts.values(), strict=True)
        )
        assert isinstance(loss, Tensor)
        update(accelerator, self.optimizers["network"], loss)
        self.average.update(self.network, step)
        return {f"{kind}_{name}": part.detach() for kind, parts in losses.items() for name, part in parts.items()}

    def _draw(self, numbers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Clean and degraded pictures (B, 3, SIZE, SIZE), and how many pixels became one (B,)."""
        clean, degraded, lost = [], [], []
        for number in numbers:
            image, width = self.pictures[number]
            degradation = wrecking(width, np.random.default_rng(number % 2**32))
            clean.append(image)
            degraded.append(apply(image[None], [degradation])[0])
            lost.append(pixels_lost(degradation))
        return torch.stack(clean), torch.stack(degraded), torch.tensor(lost)

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Sixteen degraded pictures with what is found in them."""
        _, degraded, _ = self._draw([-1 - number for number in range(16)])
        detector = Detector(copy.deepcopy(self.average.module), next(self.network.parameters()).device)
        return tile(list(preview(degraded, detector(degraded)).split(4)))

    def export(self, path: Path) -> None:
        save_detector(self.average.module, path, self.caution)


def answer_losses(
    outputs: Sequence[Tensor], wanted: Sequence[Tensor], anchors: Tensor, lost: Tensor
) -> dict[str, Tensor]:
    """How far one network's outputs are from another's, per face anchor: "classes", "boxes" and "landmarks".

    lost: (B,) how many pixels of a picture became one; of faces of which less than LEAST_LEFT are left nothing is asked.
    """
    (boxes, logits, landmarks), (wanted_boxes, wanted_logits, wanted_landmarks) = outputs, wanted
    score = wanted_logits.softmax(2)
    difference = F.kl_div(logits.log_softmax(2), score, reduction="none").sum(2)
    width = anchors[:, 2] * torch.exp(SIZE_VARIANCE * wanted_boxes[..., 2])
    is_face = (score[..., 1] > _SURE) & (width >= LEAST_LEFT * lost[:, None])
    background = difference[score[..., 1] < _NOTHING]
    count = is_face.sum().clamp(min=_LEAST_FACES)
    hardest = background.topk(min(len(background), int(_NEGATIVES * count))).values
    return {
        "classes": (difference[is_face].sum() + hardest.sum()) / count,
        "boxes": F.smooth_l1_loss(boxes[is_face], wanted_boxes[is_face], reduction="sum") / count,
        "landmarks": F.smooth_l1_loss(landmarks[is_face], wanted_landmarks[is_face], reduction="sum") / count,
    }
