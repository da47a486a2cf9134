"""Training faces as a stream of numbered samples.

Sample n is a pure function of (folder, seed, n): which file, and how it was augmented. A resumed run therefore sees
exactly what an uninterrupted one would have seen, with any number of workers.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError
from ..image import IMAGE_SUFFIXES, read_image, resize
from .scores import ScoreList
from .shards import ShardedImage, has_shards, list_shards

Face = Path | ShardedImage  # where a picture of one is


def list_images(root: str | os.PathLike[str], split: str | None = None) -> list[Path]:
    """Image files of `root/split` where that folder exists, otherwise of `root`; sorted, at least one."""
    folder = _split_folder(root, split)
    files = _images(folder)
    if not files:
        raise InputError(f"{folder}: no images ({', '.join(IMAGE_SUFFIXES)}) in this folder.")
    return files


def list_faces(root: str | os.PathLike[str], split: str | None = None) -> list[Face]:
    """What `list_images` finds, or the pictures in the shards (.tar) of that folder, in the same order.

    Raises:
        InputError: there are neither or both, or shards that `list_shards` refuses.
    """
    folder = _split_folder(root, split)
    if not has_shards(folder):
        return [*list_images(folder)]
    if files := _images(folder):
        raise InputError(
            f"{folder} holds both shards (.tar) and pictures ({files[0].name}), which may be the same: "
            "keep them in folders of their own."
        )
    return [*list_shards(folder)]


def _split_folder(root: str | os.PathLike[str], split: str | None) -> Path:
    folder = Path(root)
    if split is not None and (folder / split).is_dir():
        folder = folder / split
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder.")
    return folder


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)


def read_faces(files: Sequence[Face], resolution: int) -> Tensor:
    """Read aligned faces and resize them to (B, 3, resolution, resolution)."""
    images = [file.read() if isinstance(file, ShardedImage) else read_image(file) for file in files]
    return torch.cat([resize(image, (resolution, resolution)) for image in images])


def augment(image: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, shift, rotate and scale a little, and vary colour: (3, H, W) in [0, 1] to the same.

    Shifts are whole pixels and most samples are only shifted: resampling softens, and the score must tell the truth
    about the photograph, not about the augmentation. Ranges cover the error of a single-pass landmark detector
    (about 3 % of the width).
    """
    height, width = image.shape[1:]
    u = torch.rand(12, generator=generator).tolist()
    if u[0] < 0.5:
        image = image.flip(2)
    reach = max(1, width // 24)
    dx, dy = (round((2 * v - 1) * reach) for v in u[1:3])
    padded = F.pad(image[None], (reach, reach, reach, reach), mode="reflect")[0]
    image = padded[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
    if u[3] < 0.25:
        angle, scale = (2 * u[4] - 1) * 0.1, 1 + (2 * u[5] - 1) * 0.06
        matrix = torch.tensor([[1.0, -angle, 0.0], [angle, 1.0, 0.0]])[None] / scale
        grid = F.affine_grid(matrix, [1, 3, height, width], align_corners=False)
        image = F.grid_sample(image[None], grid, "bicubic", "reflection", align_corners=False)[0]
    if u[6] < 0.6:
        grey = image.mean(0, keepdim=True)
        image = grey + (image - grey) * (0.6 + 0.8 * u[7])
        image = (image - 0.5) * (0.8 + 0.4 * u[8]) + 0.5 + (2 * u[9] - 1) * 0.08
    if u[10] < 0.03:
        image = image.mean(0, keepdim=True).expand(3, -1, -1)
    return image.clamp(0, 1)


Sample = dict[str, Tensor]
Prepare = Callable[
    [Tensor, int], Sample
]  # a face (3, R, R) in [0, 1] and the sample's seed -> what a stage learns from


class FaceSamples(Dataset[Sample]):
    """Endless, shuffled epoch by epoch; item n is what `prepare` makes of an augmented face.

    With `more` files, every third sample is one of those. With a list of scores, every sample has its face's `score`.
    """

    def __init__(
        self,
        files: Sequence[Face],
        resolution: int,
        seed: int,
        length: int,
        prepare: Prepare,
        more: Sequence[Face] | None = None,
        scores: ScoreList | None = None,
    ) -> None:
        self.files, self.resolution, self.seed, self.length = files, resolution, seed, length
        self.prepare, self.more, self.scores = prepare, more, scores

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Sample:
        sample_seed = (self.seed * 1_000_003 + number) % 2**31
        file = self._file(number)
        face = read_faces([file], self.resolution)[0]
        # Away from the seeds of degradation and flaws, so that a flip says nothing about how strong the blur is.
        augmented = augment(face, torch.Generator().manual_seed(sample_seed + 2**31))
        sample = self.prepare(augmented, sample_seed)
        return sample if self.scores is None else {**sample, "score": torch.tensor(self.scores.of(file))}

    def _file(self, number: int) -> Face:
        files = self.files
        if self.more:
            cycle, place = divmod(number, 3)
            files, number = (self.more, cycle) if place == 2 else (files, 2 * cycle + place)
        epoch, place = divmod(number, len(files))
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(self.seed * 100_003 + epoch))
        return files[int(order[place])]


def batches(samples: FaceSamples, batch_size: int, start: int, workers: int = 0) -> DataLoader[Sample]:
    """Batches of samples from step `start` on, made by `workers` processes (0: by this one)."""
    numbers = range(start * batch_size, len(samples))
    return DataLoader(
        samples,
        batch_size=batch_size,
        sampler=numbers,
        num_workers=workers,
        drop_last=True,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )
