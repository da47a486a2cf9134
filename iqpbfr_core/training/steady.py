"""A detector that degradation does not put off: of a degraded picture it learns to say what a teacher says of the clean one.

Self-distillation (Hinton et al. 2015, arXiv 1503.02531). The answers are the network's own before training, or those of
the network it comes from, so whole photographs serve beside composed scenes, and half of every batch is clean: what is
known stays. The faces of the pictures are known: what the teacher sees elsewhere is not believed, and what it does not see
is told.
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
from torchvision.ops import box_iou

from ..degradation import apply
from ..errors import TrainingError
from ..faces.anchors import SIZE_VARIANCE, anchor_boxes, decode, encode
from ..faces.detection import Detector
from ..faces.selection import preview
from ..image import from_pil, tile
from ..models.retinaface import RetinaFace, to_retinaface
from .autoencoder import Averaged
from .data import Sample
from .detector import FACE, match, save_detector, scene_number
from .loop import update
from .scenes import LEAST_LEFT, Portrait, Scene, Scenes, face_boxes, mirrored, pixels_lost, read_picture, wrecking

SIZE = 320  # pixels of a picture's side
_SURE, _NOTHING = 0.5, 0.1  # scores from which, and up to which, the clean picture's answer is a face or none
_NEAR = 0.2  # intersection over union with a face of the picture, from which the teacher may see that face
_SAME = 0.5  # from which it sees it
_CERTAIN = 2.0  # as a logit, for and against
_NEGATIVES = 10  # backgrounds per face, those on which the answers differ most first
_LEAST_FACES = 4  # in a batch, by which losses are divided
_ANSWERS = {"degraded": (2.0, 1.0, 2.0), "clean": (2.0, 2.0, 4.0)}  # weights of classes, boxes and landmarks


class Pictures:
    """Picture number n, SIZE pixels wide, and the width of a face in it in pixels: composed scenes and, every other one, a
    whole photograph on the background of a scene."""

    def __init__(self, scenes: Scenes, whole: Sequence[Portrait]) -> None:
        self.scenes, self.whole = scenes, list(whole)

    def __getitem__(self, number: int) -> tuple[Scene, float]:
        rng = np.random.default_rng((self.scenes.seed + 1, number % 2**32))
        if self.whole and rng.random() < 0.5:
            return self._photograph(rng)
        scene = self.scenes[number]
        widths = (scene.boxes[:, 2] - scene.boxes[:, 0]).tolist() or [rng.uniform(30, 200)]
        return scene, widths[rng.integers(len(widths))]

    def _photograph(self, rng: np.random.Generator) -> tuple[Scene, float]:
        portrait = self.whole[rng.integers(len(self.whole))]
        picture, landmarks = read_picture(portrait.file), portrait.landmarks
        box = face_boxes(landmarks[None])[0]
        low, high = self.scenes.recipe.widths
        scale = math.exp(rng.uniform(math.log(low), math.log(high))) / (box[2] - box[0])
        size = [max(8, round(side * scale)) for side in picture.size]
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=2)
        landmarks = scale * landmarks
        if rng.random() < 0.5:
            picture, landmarks = ImageOps.mirror(picture), mirrored(landmarks, picture.width)
        canvas = self.scenes.background(rng)
        corner = np.round(rng.uniform(0.3, 0.7, 2) * canvas.size - landmarks.mean(0))
        canvas.paste(picture, tuple(corner.astype(int)))
        faces = (landmarks + corner)[None]
        boxes = torch.from_numpy(face_boxes(faces)).float()
        scene = Scene(from_pil(canvas)[0], boxes, torch.from_numpy(faces).float(), torch.ones(1, dtype=torch.bool))
        return scene, float(boxes[0, 2] - boxes[0, 0])


class SteadyStage:
    """Stage of `iqpbfr train detector --steady`.

    Args:
        pictures: what to look at, clean and degraded as `full` degrades a face in it.
        network: a trained one; all of it is trained on.
        teacher: whose answers it learns; None: its own, as it is now.
        rate: peak learning rate.
        caution: as of DetectorStage.
        keep: share of the teacher's weights in the exported ones, which keeps more of what it knew than training on
            clean pictures alone (Wortsman et al. 2022, arXiv 2109.01903).
    """

    prepare = staticmethod(scene_number)
    scores = None

    def __init__(
        self,
        pictures: Pictures,
        network: RetinaFace,
        teacher: RetinaFace | None = None,
        rate: float = 3e-4,
        caution: float = 0.0,
        keep: float = 0.0,
        seed: int = 0,
    ) -> None:
        teacher = network if teacher is None else teacher
        if teacher.config != network.config:
            raise TrainingError(f"the teacher ({teacher.config}) must be built as the network is ({network.config}).")
        torch.manual_seed(seed)
        self.pictures, self.caution, self.keep = pictures, caution, keep
        self.network = network.float().eval().requires_grad_(True)  # its normalisation stays as it was trained
        self.teacher = copy.deepcopy(teacher).float().eval().requires_grad_(False)
        self.average = Averaged(self.network)
        self.modules: dict[str, nn.Module] = {"network": self.network, "average": self.average.module}
        self.modules["teacher"] = self.teacher  # a resumed run has the first one's answers
        self.optimizers: dict[str, Optimizer] = {"network": AdamW(self.network.parameters(), rate, weight_decay=1e-4)}

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        """Nothing to prepare: the pictures have faces of their own."""

    def step(self, accelerator: Accelerator, batch: Sample, step: int) -> dict[str, Tensor]:
        scenes, degraded, lost = self._draw(batch["number"].tolist())
        clean = torch.stack([scene.image for scene in scenes]).to(accelerator.device)
        degraded, lost = degraded.to(accelerator.device), lost.to(accelerator.device)
        anchors = anchor_boxes(self.network.config, SIZE, SIZE, clean.device)
        self.network.eval()
        with torch.no_grad():
            wanted = corrected(self.teacher(to_retinaface(clean)), anchors, scenes)
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

    def _draw(self, numbers: list[int]) -> tuple[list[Scene], Tensor, Tensor]:
        """Clean pictures, the same degraded (B, 3, SIZE, SIZE), and how many pixels became one (B,)."""
        scenes, degraded, lost = [], [], []
        for number in numbers:
            scene, width = self.pictures[number]
            degradation = wrecking(width, np.random.default_rng(number % 2**32))
            scenes.append(scene)
            degraded.append(apply(scene.image[None], [degradation])[0])
            lost.append(pixels_lost(degradation))
        return scenes, torch.stack(degraded), torch.tensor(lost)

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Sixteen degraded pictures with what is found in them."""
        _, degraded, _ = self._draw([-1 - number for number in range(16)])
        detector = Detector(copy.deepcopy(self.average.module), next(self.network.parameters()).device)
        return tile(list(preview(degraded, detector(degraded)).split(4)))

    @torch.no_grad()
    def export(self, path: Path) -> None:
        mixed = copy.deepcopy(self.average.module)
        for weights, known in zip(mixed.parameters(), self.teacher.parameters(), strict=True):
            weights.lerp_(known, self.keep)
        save_detector(mixed, path, self.caution)


def corrected(answers: Sequence[Tensor], anchors: Tensor, scenes: Sequence[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """A network's outputs for pictures whose faces are known: where it saw one that is none of them, now there is nothing,
    and those it did not see, of the visible ones, are there."""
    offsets, logits, points = (answer.clone() for answer in answers)
    for offset, logit, point, scene in zip(offsets, logits, points, scenes, strict=True):
        known, score = scene.boxes.to(anchors), logit.softmax(1)[:, 1]
        (doubtful,) = (score > _NOTHING).nonzero(as_tuple=True)
        seen, _ = decode(anchors[doubtful], offset[doubtful], point[doubtful])
        overlap = box_iou(seen, known)
        logit[doubtful[~(overlap > _NEAR).any(1)]] = logit.new_tensor((_CERTAIN, -_CERTAIN))
        if len(known):
            is_missed = ~((overlap > _SAME) & (score[doubtful, None] > _SURE)).any(0)
            label, face = match(anchors, scene)
            (where,) = ((label == FACE) & is_missed[face]).nonzero(as_tuple=True)
            logit[where] = logit.new_tensor((-_CERTAIN, _CERTAIN))
            face, landmarks = face[where], scene.landmarks.to(anchors)
            offset[where], point[where] = encode(anchors[where], known[face], landmarks[face])
    return offsets, logits, points


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
