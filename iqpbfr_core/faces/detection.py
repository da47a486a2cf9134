"""Find faces: RetinaFace, batched over frames, in up to three passes.

The first two see every frame whole, at a quarter and half of the detection size: they find the large faces, and there
one that is blurred or noisy is as clear as any. The last sees frames larger than the detection size, sharper and in
overlapping tiles: it finds the small ones. What they found is merged, each face once: what no pass is sure of alone,
several may be together.

RetinaFace: Deng et al. 2019, arXiv 1905.00641.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.resources import as_file, files
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

from ..checkpoint import BUILTIN, StateDict, read_weights
from ..download import Progress
from ..errors import CheckpointError, InputError
from ..image import check_images, resize
from ..models.retinaface import RetinaFace, RetinaFaceConfig, to_retinaface
from .anchors import anchor_boxes, decode
from .face import Faces, join
from .weights import RETINAFACE_MOBILE, RETINAFACE_RESNET50, load_strictly, locate

_PACKAGE = __name__.rpartition(".faces.")[0]  # inside ComfyUI the package has another name
_BUILTIN_FILE = "detector.safetensors"
DETECTORS = {"retinaface_resnet50": RETINAFACE_RESNET50, "retinaface_mobile0.25": RETINAFACE_MOBILE}
DETECTOR_FILES = {file.name: name for name, file in DETECTORS.items()}  # which detector a known file name means
_SMALL_ANCHORS = ((10, 20), (32, 64), (128, 256))
_COARSE = (0.25, 0.5)  # passes at less than the detection size
_MAX_GAP = 2  # a last pass that is sharper than this many times the detection size needs one at that size before it
_LEAST = 0.5  # of the wanted confidence: what a pass must be sure of for its word to count at all
_TOGETHER = 2.0  # of the wanted confidence: what the passes' scores of a face must add up to, unless one is sure alone
_SAME = 0.5  # intersection over union from which two passes saw the same face
_DOUBT = 0.5  # by how much, in scores of a pass, what lies inside a face must be surer to be one in its place
_MAX_OVERLAP = 0.4  # intersection over union from which two boxes are one face
_MIN_VOTE = 0.7  # intersection over union from which a box has a say in where the face is
_MAX_INSIDE = 0.4  # share of a box inside a larger one from which only one of the two is a face
_REACH = 1.25  # width of the widest face the network sees whole, in sides of its largest anchor
_TILE_OVERLAP = 0.25  # of the detection size: faces up to this size lie whole in some tile


class Detector:
    """RetinaFace and how it is applied.

    Attributes:
        network: RetinaFace; may be moved and converted from outside.
        device: where it computes; weights that lie elsewhere come there as they are used.
    """

    def __init__(self, network: RetinaFace, device: torch.device | str = "cpu") -> None:
        self.network = network.eval().requires_grad_(False)
        self.device = torch.device(device)

    @property
    def config(self) -> RetinaFaceConfig:
        return self.network.config

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Detector":
        """Move and convert the weights in place; returns itself."""
        self.network.to(device=device, dtype=dtype)
        self.device = self.device if device is None else torch.device(device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        confidence: float = 0.8,
        min_size: float = 10,
        size: int = 640,
        detail: float = 2,
        batch_size: int = 8,
    ) -> Faces:
        """Find the faces of a batch of frames.

        Args:
            images: (B, 3, H, W) in [0, 1].
            confidence: least score of a face, in [0, 1].
            min_size: least width of a face, in pixels of the frame.
            size: longest side in pixels at which frames and tiles are looked at.
            detail: the pass for small faces sees frames up to this many times sharper; at most 1 turns it off. Raise it
                to find small faces in very large frames.
            batch_size: frames or tiles looked at together.

        Returns:
            Faces, ordered by frame and then by falling score.
        """
        check_images(images)
        _check_options(confidence, min_size, size, detail, batch_size)
        frame_size, longest = (int(images.shape[2]), int(images.shape[3])), max(images.shape[2:])
        factors = (*_COARSE, 1 if detail > _MAX_GAP else _COARSE[-1], max(1, detail))
        lengths = sorted({min(longest, round(factor * size)) for factor in factors})
        found, passes = [Faces.none(frame_size, len(images))], [torch.empty(0)]
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].split(1)
            frames = torch.cat([_shrink(image.to(self.device, torch.float32), lengths[-1]) for image in batch])
            for length in lengths:
                here = self._look(frames, length, size, _LEAST * confidence, batch_size, length == lengths[0])
                here = here.scaled_to(frame_size)
                found.append(replace(here, frames=here.frames + start, num_frames=len(images)))
                passes.append(torch.full((len(here),), float(length)))
        faces = join(found)
        is_usable = _is_usable(faces, min_size)
        return merge_duplicates(faces[is_usable], torch.cat(passes)[is_usable], confidence)

    def _look(
        self, frames: Tensor, length: int, size: int, confidence: float, batch_size: int, is_coarsest: bool
    ) -> Faces:
        """One pass: frames (B, 3, H, W) shrunk to `length` and cut into tiles of at most `size`; duplicates included."""
        shrunk = _shrink(frames, length)
        height, width = int(shrunk.shape[2]), int(shrunk.shape[3])
        (tile_height, tops), (tile_width, lefts) = _tiles(height, size), _tiles(width, size)
        corners = [(y, x) for y in tops for x in lefts]
        found = [Faces.none((height, width), len(frames))]
        for jobs in _chunks([(frame, corner) for frame in range(len(frames)) for corner in corners], batch_size):
            tiles = torch.stack([shrunk[f, :, y : y + tile_height, x : x + tile_width] for f, (y, x) in jobs])
            for (frame, (y, x)), (boxes, landmarks, scores) in zip(jobs, self._run(tiles, confidence), strict=True):
                whole = _lies_inside(boxes, (tile_height, tile_width), (y, x), (height, width))
                boxes = (boxes[whole] + torch.tensor((x, y, x, y))).clamp(min=0)
                boxes = boxes.minimum(torch.tensor((width, height, width, height)))
                landmarks = landmarks[whole] + torch.tensor((x, y))
                index = torch.full((len(boxes),), frame)
                found.append(Faces(boxes, landmarks, scores[whole], index, (height, width), len(frames)))
        faces = join(found)
        if not is_coarsest:  # wider faces come in pieces here; a coarser pass has them whole
            faces = faces[faces.widths <= _REACH * max(map(max, self.config.anchors))]
        return faces.scaled_to((int(frames.shape[2]), int(frames.shape[3])))

    def _run(self, tiles: Tensor, confidence: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Boxes (n, 4), landmarks (n, 5, 2) and scores (n,) of each tile (B, 3, h, w) in [0, 1], on the CPU."""
        inputs = to_retinaface(tiles).to(self.dtype)
        if inputs.device.type == "cpu":  # where convolutions of each channel alone are faster so, the others no slower
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        outputs = self.network(inputs)
        anchors = anchor_boxes(self.config, tiles.shape[2], tiles.shape[3], tiles.device)
        for offsets, logits, points in zip(*(output.float() for output in outputs), strict=True):
            scores = logits.softmax(1)[:, 1]
            keep = scores >= confidence
            boxes, landmarks = decode(anchors[keep], offsets[keep], points[keep])
            yield boxes.cpu(), landmarks.cpu(), scores[keep].cpu()


def merge_duplicates(faces: Faces, passes: Tensor | None = None, confidence: float = 0) -> Faces:
    """Each face once.

    Of boxes that overlap, the best-scored stays and takes the mean place of them all, weighted by score (Gidaris and
    Komodakis 2015, box voting). What lies mostly inside a larger face is a part of it, unless it is much the surer.

    Args:
        passes: (N,) tells apart the passes that saw the faces; None: one saw them all.
        confidence: least score of a face. One that no pass is as sure of has it where the passes' scores add up to
            twice as much.

    Returns:
        Faces by frame and falling score.
    """
    passes = torch.zeros(len(faces)) if passes is None else passes
    merged = [_merge_frame(faces[here], passes[here], confidence) for here in _by_frame(faces)]
    return join([Faces.none(faces.size, faces.num_frames), *merged])


def _merge_frame(faces: Faces, passes: Tensor, confidence: float) -> Faces:
    sureness = _sureness(faces, passes)
    scores = faces.scores.maximum((sureness / _TOGETHER).clamp(max=confidence))
    is_sure = scores >= confidence
    faces, sureness, scores = faces[is_sure], sureness[is_sure], scores[is_sure]
    kept = nms(faces.boxes, faces.scores, _MAX_OVERLAP)
    votes = (box_iou(faces.boxes[kept], faces.boxes) > _MIN_VOTE) * faces.scores
    votes = votes / votes.sum(1, keepdim=True)
    landmarks = (votes @ faces.landmarks.flatten(1)).reshape(-1, 5, 2)
    merged = Faces(votes @ faces.boxes, landmarks, scores[kept], faces.frames[kept], faces.size, faces.num_frames)
    sureness = sureness[kept]
    corner = torch.maximum(merged.boxes[:, None, :2], merged.boxes[None, :, :2])
    opposite = torch.minimum(merged.boxes[:, None, 2:], merged.boxes[None, :, 2:])
    shared = (opposite - corner).clamp(min=0).prod(-1)
    is_inside = (shared > _MAX_INSIDE * merged.areas[:, None]) & (merged.areas[:, None] < merged.areas)
    is_part = is_inside & (sureness[:, None] <= sureness + _DOUBT)
    has_surer_part = (is_inside & ~is_part & ~is_part.any(1, keepdim=True)).any(0)
    return merged[~is_part.any(1) & ~has_surer_part]


def _sureness(faces: Faces, passes: Tensor) -> Tensor:
    """(N,) the best scores of what every pass saw in a face's place, summed."""
    overlap, total = box_iou(faces.boxes, faces.boxes), torch.zeros(len(faces))
    for one in passes.unique():
        total += ((overlap[:, passes == one] > _SAME) * faces.scores[passes == one]).amax(1)
    return total


def _by_frame(faces: Faces) -> Iterator[Tensor]:
    for frame in faces.frames.unique().tolist():
        yield faces.frames == frame


def _is_usable(faces: Faces, min_size: float) -> Tensor:
    """(N,) faces large enough, whose landmarks are apart and on the whole within the frame."""
    height, width = faces.size
    middle = faces.landmarks.mean(1)
    is_inside = (middle >= 0).all(1) & (middle < torch.tensor((width, height))).all(1)
    are_apart = (faces.landmarks[:, 0] - faces.landmarks[:, 1]).norm(dim=1) >= 1
    return is_inside & are_apart & (faces.widths >= min_size) & (faces.heights >= min_size)


def _shrink(images: Tensor, longest: int) -> Tensor:
    """Images (B, 3, H, W) with their longer side at most `longest`."""
    scale = min(1.0, longest / max(images.shape[2:]))
    return resize(images, (max(1, round(images.shape[2] * scale)), max(1, round(images.shape[3] * scale))))


def _tiles(length: int, size: int) -> tuple[int, list[int]]:
    """The side of tiles, at most `size`, and where they begin so that they cover `length` and overlap as they should."""
    if length <= size:
        return length, [0]
    overlap = round(_TILE_OVERLAP * size)
    count = ceil((length - overlap) / (size - overlap))
    side = ceil((length + (count - 1) * overlap) / count)
    return side, [round(i * (length - side) / (count - 1)) for i in range(count)]


def _lies_inside(boxes: Tensor, tile: tuple[int, int], corner: tuple[int, int], scaled: tuple[int, int]) -> Tensor:
    """(n,) whether a box is not cut by an edge of its tile; the frame's own edges may cut it."""
    (height, width), (y, x) = tile, corner
    left = (boxes[:, 0] > 0) | torch.tensor(x == 0)
    top = (boxes[:, 1] > 0) | torch.tensor(y == 0)
    right = (boxes[:, 2] < width) | torch.tensor(x + width == scaled[1])
    bottom = (boxes[:, 3] < height) | torch.tensor(y + height == scaled[0])
    return left & top & right & bottom


def _chunks(items: list, length: int) -> Iterator[list]:
    for start in range(0, len(items), length):
        yield items[start : start + length]


def _check_options(confidence: float, min_size: float, size: int, detail: float, batch_size: int) -> None:
    if not 0 < confidence <= 1:
        raise InputError(f"confidence must lie in (0, 1], got {confidence}.")
    if not min_size >= 0:
        raise InputError(f"min_size must be at least 0 pixels, got {min_size}.")
    if size < 64:
        raise InputError(f"the detection size must be at least 64 pixels, got {size}.")
    if not detail >= 0:
        raise InputError(f"detail must be at least 0 (1 and less: one pass), got {detail}.")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")


def load_detector(
    source: str | os.PathLike[str] = BUILTIN,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    folder: str | os.PathLike[str] | None = None,
    download: bool = False,
    relu: bool | None = None,
    operations: Any = nn,
    progress: Progress | None = None,
) -> Detector:
    """Load a face detector.

    Args:
        source: "builtin" for the small one of this package, "retinaface_resnet50", "retinaface_mobile0.25" or the name of
            their file, or the path of a RetinaFace weight file; which of the two networks a file belongs to is read
            from its tensors.
        device, dtype: where and how the weights are kept.
        folder: where the named weights are; None looks in facexlib's own folder and in $TORCH_HOME/hub/facexlib.
        download: whether missing weights may be downloaded into that folder.
        relu: the weights were trained with plain ReLU and anchors for smaller faces, which nothing in the file tells;
            None: they were if the file's name ends in `_relu`. facexlib's own were not.
        operations: namespace with the layer classes, such as torch.nn.
        progress: told how far a download is; see `download.fetch`.

    Raises:
        InputError: no such detector.
        WeightsNotFoundError: the weights are missing and `download` is off; names file, folder and address.
        CheckpointError: the file cannot be read or is no RetinaFace.
    """
    if source == BUILTIN:
        with as_file(files(_PACKAGE) / "weights" / _BUILTIN_FILE) as path:
            return load_detector(path, device, dtype, operations=operations)
    named = os.fspath(source)
    named = DETECTOR_FILES.get(named, named)
    if named in DETECTORS and not Path(source).is_file():
        path = locate(DETECTORS[named], folder, download, progress)
    elif Path(source).suffix:
        path = Path(source)
    else:
        raise InputError(
            f"unknown detector {str(source)!r}; there are {BUILTIN}, {', '.join(DETECTORS)}, or give a weight file."
        )
    weights, metadata = read_weights(path)
    weights = {key.removeprefix("module."): value for key, value in weights.items()}
    try:
        if "config" in metadata:
            config = RetinaFaceConfig.from_json(metadata["config"])
        else:
            config = _infer_config(weights, path.stem.endswith("_relu") if relu is None else relu)
        network = load_strictly(partial(RetinaFace, config, operations), weights, f"RetinaFace ({config.backbone})")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Detector(network).to(device, dtype)


def _infer_config(weights: StateDict, relu: bool) -> RetinaFaceConfig:
    """What a file without a config holds; slopes and anchors are those of the authors' configurations."""
    if "body.layer2.0.conv1.weight" in weights:
        return RetinaFaceConfig("resnet50", slope=0.0)
    if relu:
        return RetinaFaceConfig("mobile0.25", slope=0.0, anchors=_SMALL_ANCHORS)
    return RetinaFaceConfig("mobile0.25", slope=0.1)
