"""The faces found in a batch of frames, as a structure of arrays on the CPU."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..errors import InputError

_MAX_STRETCH = 0.02  # how far an upscaled photo's proportions may be from the photo's


@dataclass(frozen=True)
class Faces:
    """N faces of a batch of frames.

    Attributes:
        boxes: (N, 4) left, top, right, bottom, in pixels.
        landmarks: (N, 5, 2) x, y of left eye, right eye, nose, left and right corner of the mouth (as seen).
        scores: (N,) the detector's confidence in [0, 1].
        frames: (N,) index of the frame each face is in.
        size: (H, W) of the frames.
        num_frames: how many frames there were; some may hold no face.
    """

    boxes: Tensor
    landmarks: Tensor
    scores: Tensor
    frames: Tensor
    size: tuple[int, int]
    num_frames: int = 1

    def __post_init__(self) -> None:
        shapes = [tuple(getattr(self, name).shape) for name in ARRAYS]
        n = len(self.boxes)
        if shapes != [(n, 4), (n, 5, 2), (n,), (n,)]:
            raise InputError(
                f"{n} faces need boxes, landmarks, scores and frames of shapes ({n}, 4), ({n}, 5, 2), ({n},) and "
                f"({n},), got {', '.join(map(str, shapes))}."
            )
        if n and not (torch.isfinite(self.boxes).all() and torch.isfinite(self.landmarks).all()):
            raise InputError("a face has a box or landmarks with NaN or infinity.")
        if n and not 0 <= int(self.frames.min()) <= int(self.frames.max()) < self.num_frames:
            raise InputError(f"a face is in a frame outside 0 ... {self.num_frames - 1}.")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor | slice | list[int]) -> "Faces":
        """The faces at these indices, or where a boolean mask (N,) is True."""
        if isinstance(index, list):
            index = torch.tensor(index, dtype=torch.long)
        parts = {name: getattr(self, name)[index] for name in ARRAYS}
        return Faces(**parts, size=self.size, num_frames=self.num_frames)

    @property
    def widths(self) -> Tensor:
        return self.boxes[:, 2] - self.boxes[:, 0]

    @property
    def heights(self) -> Tensor:
        return self.boxes[:, 3] - self.boxes[:, 1]

    @property
    def areas(self) -> Tensor:
        return self.widths * self.heights

    @property
    def centres(self) -> Tensor:
        """(N, 2) x, y of the boxes' centres."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def check_belong(self, images: Tensor) -> None:
        """Raise InputError unless the faces can have been found in these frames (B, 3, H, W)."""
        height, width = images.shape[2:]
        if self.size != (height, width) or self.num_frames != len(images):
            raise InputError(
                f"these faces were found in {self.num_frames} frames of {self.size[1]}x{self.size[0]} pixels, the "
                f"images are {len(images)} of {width}x{height}: detect them in the same images."
            )

    def scale_in(self, images: Tensor, name: str = "the image") -> tuple[float, float]:
        """How many times wider and higher images (B, 3, kH, kW) are than the frames the faces were found in.

        Raises InputError unless they can be the same frames at another size, which may be rounded to whole pixels.
        """
        height, width = images.shape[2:]
        scale_x, scale_y = width / self.size[1], height / self.size[0]
        if len(images) != self.num_frames or abs(scale_y / scale_x - 1) > _MAX_STRETCH:
            raise InputError(
                f"{name} must be the same {self.num_frames} photos the faces were found in, with the proportions of "
                f"{self.size[1]}x{self.size[0]}; got {len(images)} of {width}x{height}."
            )
        return scale_x, scale_y

    @staticmethod
    def of_frames(parts: "list[Faces]") -> "Faces":
        """What was found in consecutive batches of frames, as faces of one batch."""
        counts = [part.num_frames for part in parts]
        frames = torch.cat([part.frames + sum(counts[:number]) for number, part in enumerate(parts)])
        arrays = {name: torch.cat([getattr(part, name) for part in parts]) for name in ARRAYS if name != "frames"}
        return Faces(**arrays, frames=frames, size=parts[0].size, num_frames=sum(counts))

    def in_frames(self, start: int, stop: int) -> "Faces":
        """The faces of frames `start` to `stop` (without it), as faces of a batch of those alone."""
        here = self[(self.frames >= start) & (self.frames < stop)]
        return replace(here, frames=here.frames - start, num_frames=stop - start)

    def scaled_to(self, size: tuple[int, int]) -> "Faces":
        """The same faces in frames resized to `size` (H, W)."""
        factor = torch.tensor((size[1] / self.size[1], size[0] / self.size[0]))
        return replace(self, boxes=self.boxes * factor.repeat(2), landmarks=self.landmarks * factor, size=size)

    @staticmethod
    def none(size: tuple[int, int], num_frames: int = 1) -> "Faces":
        """No face at all."""
        empty = torch.empty(0)
        return Faces(empty.reshape(0, 4), empty.reshape(0, 5, 2), empty, empty.long(), size, num_frames)


ARRAYS = tuple(field.name for field in fields(Faces))[:4]


def join(parts: Iterable[Faces]) -> Faces:
    """The faces of several detections on the same frames, one after the other; at least one part."""
    parts = list(parts)
    arrays = {name: torch.cat([getattr(part, name) for part in parts]) for name in ARRAYS}
    return Faces(**arrays, size=parts[0].size, num_frames=parts[0].num_frames)
