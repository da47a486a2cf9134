"""Train RetinaFace on composed scenes: where faces are (multi-task loss of Deng et al. 2019, arXiv 1905.00641)."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torchvision.ops import box_iou

from ..checkpoint import save_network
from ..faces.anchors import anchor_boxes, encode
from ..faces.detection import Detector
from ..faces.selection import preview
from ..image import tile
from ..models.retinaface import RetinaFace, RetinaFaceConfig, to_retinaface
from .data import Sample
from .loop import update
from .scenes import Scene, Scenes

# Anchors from 10 pixels on, since small faces in group photos are what restoration is for.
NEW = RetinaFaceConfig("mobile0.25", slope=0.0, anchors=((10, 20), (32, 64), (128, 256)))

FACE, _BACKGROUND, _NEITHER = 1, 0, -1
_MIN_OVERLAP = 0.35  # intersection over union from which an anchor must find the face
_NEAR = 0.2  # from which an anchor may see a hidden face, and is asked nothing
_NEGATIVES = 10  # background anchors per face anchor, the hardest first (Shrivastava et al. 2016, OHEM)
_LEAST_NEGATIVES = 20  # per scene, where there is no face to count by
# What serves the small anchors only, and how sure the middle ones are. A network that was trained on real pictures
# knows large faces better than scenes of 256 pixels can teach it, so its other parts stay bit for bit as they are.
_FINE = ("fpn.output1.", "fpn.merge1.", "ssh1.", "ClassHead.0.", "BboxHead.0.", "LandmarkHead.0.", "ClassHead.1.")
_CLASS_WEIGHT = 2.0  # what a false face costs, against box and landmarks of a true one


def match(anchors: Tensor, scene: Scene) -> tuple[Tensor, Tensor]:
    """What each of the anchors (A, 3) is to find in a scene.

    Returns:
        (A,) FACE, _BACKGROUND or _NEITHER, and (A,) the index of the nearest face.
    """
    centre, side = anchors[:, :2], anchors[:, 2:]
    labels = torch.full((len(anchors),), _BACKGROUND, device=anchors.device)
    if len(scene.boxes) == 0:
        return labels, torch.zeros_like(labels)
    overlap = box_iou(scene.boxes.to(anchors), torch.cat((centre - side / 2, centre + side / 2), 1))
    best, face = overlap.max(0)
    is_visible = scene.is_visible.to(anchors.device)
    labels[is_visible[face] & (best >= _MIN_OVERLAP)] = FACE
    labels[~is_visible[face] & (best >= _NEAR)] = _NEITHER
    # Every visible face has at least the anchor that fits it best.
    nearest = overlap.argmax(1)[is_visible]
    labels[nearest] = FACE
    face[nearest] = is_visible.nonzero()[:, 0]
    return labels, face


def detector_loss(outputs: Sequence[Tensor], anchors: Tensor, scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Losses "boxes", "classes" and "landmarks" of the network's outputs for a batch of scenes, per face anchor."""
    offsets, logits, points = (output.float() for output in outputs)
    labels, wanted_offsets, wanted_points = [], [], []
    for scene in scenes:
        label, face = match(anchors, scene)
        is_face, face = label == FACE, face[label == FACE]
        boxes, landmarks = scene.boxes.to(anchors)[face], scene.landmarks.to(anchors)[face]
        wanted_offset, wanted_point = encode(anchors[is_face], boxes, landmarks)
        labels.append(label)
        wanted_offsets.append(wanted_offset)
        wanted_points.append(wanted_point)
    label = torch.stack(labels)
    is_face = label == FACE
    count = is_face.sum().clamp(min=1)
    surprise = F.cross_entropy(logits.flatten(0, 1), (label == FACE).long().flatten(), reduction="none")
    surprise = surprise.reshape(label.shape)
    background = surprise[label == _BACKGROUND]
    num_negatives = min(len(background), max(_NEGATIVES * int(is_face.sum()), _LEAST_NEGATIVES * len(scenes)))
    classes = surprise[is_face].sum() + background.topk(num_negatives).values.sum()
    return {
        "boxes": F.smooth_l1_loss(offsets[is_face], torch.cat(wanted_offsets), reduction="sum") / count,
        "classes": classes / count,
        "landmarks": F.smooth_l1_loss(points[is_face], torch.cat(wanted_points), reduction="sum") / count,
    }


def scene_number(face: Tensor, seed: int) -> Sample:
    """Scenes have faces of their own; of the loop's samples the number is all they need."""
    return {"number": torch.tensor(seed)}


class DetectorStage:
    """Stage of `iqpbfr train detector`.

    Args:
        scenes: what to learn from; the run's sample seeds are their numbers.
        network: to be trained on for small faces alone, see _FINE; None starts a new one.
        rate: peak learning rate.
        caution: how much lower, as a logit, the exported network scores faces: hard negatives make training overrate
            them.
    """

    prepare = staticmethod(scene_number)
    scores = None

    def __init__(
        self,
        scenes: Scenes,
        network: RetinaFace | None = None,
        rate: float = 1e-3,
        caution: float = 0.0,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.scenes, self.caution, self.is_new = scenes, caution, network is None
        self.network = RetinaFace(NEW) if network is None else network
        self._choose_learnt()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.modules: dict[str, nn.Module] = {"network": self.network}
        learnt = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizers: dict[str, Optimizer] = {"network": AdamW(learnt, rate, weight_decay=5e-4)}

    def _choose_learnt(self) -> None:
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(self.is_new or name.startswith(_FINE))

    def start(self, accelerator: Accelerator, faces: Tensor) -> None:
        """Nothing to prepare: the scenes have faces of their own."""

    def step(self, accelerator: Accelerator, batch: Sample, step: int) -> dict[str, Tensor]:
        scenes = [self.scenes[number] for number in batch["number"].tolist()]
        images = to_retinaface(torch.stack([scene.image for scene in scenes]).to(accelerator.device))
        images = images.contiguous(memory_format=torch.channels_last)
        anchors = anchor_boxes(self.network.config, images.shape[2], images.shape[3], images.device)
        self.network.train(self.is_new)
        with accelerator.autocast():
            outputs = self.network(images)
        losses = detector_loss(outputs, anchors, scenes)
        update(
            accelerator,
            self.optimizers["network"],
            losses["boxes"] + _CLASS_WEIGHT * losses["classes"] + losses["landmarks"],
        )
        return {name: loss.detach() for name, loss in losses.items()}

    @torch.no_grad()
    def samples(self, faces: Tensor) -> Tensor:
        """Sixteen scenes with what is found in them."""
        device = next(self.network.parameters()).device
        images = torch.stack([self.scenes[-1 - number].image for number in range(16)])
        detector = Detector(self.network, device)
        shown = preview(images, detector(images))
        self._choose_learnt()  # a detector freezes all
        return tile(list(shown.split(4)))

    def export(self, path: Path) -> None:
        save_detector(self.network, path, self.caution)


def save_detector(network: RetinaFace, path: Path, caution: float) -> None:
    """Write a file for `load_detector`, in half precision but for the normalisation.

    caution: how much lower, as a logit, it scores faces than `network` does.
    """
    exported = copy.deepcopy(network).requires_grad_(False)
    for head in exported.ClassHead:
        bias = head.get_parameter("conv1x1.bias")
        bias[1::2] -= caution  # background and face take turns
    save_network(exported.half(), path)
