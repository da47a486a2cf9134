"""Seconds for a 4K group picture with 12 faces: our way, and face by face on full frames, in one run.

    python benchmarks/group_photo.py [--detector NAME] [--model-dir DIR] [--device cpu] [--rounds 3] [--no-network]
        [--official DIR]

Both ways detect, align, restore and paste with the same functions and weights; they differ in what they touch:

    ours           detection at a bounded size and in tiles, all crops restored together, each pasted on its own region
    face by face   detection on the full frame, crops restored one after the other, each pasted by warping and blending
                   whole frames, as common face restoration nodes do (their erosion and blurs of the mask are left out)

They alternate, so that a busy machine slows both; medians are compared, of seconds and of what the processor worked. The
wanted ratio is 1/4 at most. --no-network leaves faces as they are, to see what everything else takes.

DIR is a checkout of github.com/sczhou/CodeFormer: its face helper then does the same with our detector's weights and our
restorer, face by face, its own detection size and square masks. The detector must be a mobile0.25.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from official import Checkout
from torch import Tensor

from iqpbfr_core import load_detector, load_restorer, restore_photo
from iqpbfr_core.faces import alignment
from iqpbfr_core.faces.detection import Detector
from iqpbfr_core.faces.masks import template_mask
from iqpbfr_core.image import read_image, resize
from iqpbfr_core.restorer import Restorer

WIDTH, HEIGHT = 3840, 2160
ROWS, COLUMNS = 3, 4
FACE = 480  # side in pixels of each pasted portrait


def group_picture(face: Tensor) -> Tensor:
    """(1, 3, 2160, 3840): a soft gradient with 12 portraits in three rows."""
    picture = resize(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.3, (HEIGHT, WIDTH))
    portrait = resize(face, (FACE, FACE))
    for row in range(ROWS):
        for column in range(COLUMNS):
            y = (2 * row + 1) * HEIGHT // (2 * ROWS) - FACE // 2
            x = (2 * column + 1) * WIDTH // (2 * COLUMNS) - FACE // 2
            picture[:, :, y : y + FACE, x : x + FACE] = portrait
    return picture


def ours(picture: Tensor, restorer: Restorer, detector: Detector) -> int:
    return len(restore_photo(picture, restorer, detector, batch_size=ROWS * COLUMNS).faces)


@torch.no_grad()
def face_by_face(picture: Tensor, restorer: Restorer, detector: Detector) -> int:
    faces = detector(picture, size=2 * max(picture.shape), detail=0)  # one pass over the whole frame
    side = restorer.config.resolution
    matrices = alignment.align(faces, side)
    mask = template_mask(side, device=restorer.device)
    frame = (0, 0, picture.shape[3], picture.shape[2])
    for index in range(len(faces)):
        matrix = matrices[index]
        crop = alignment.crop(picture, faces[[index]], side, matrices[index : index + 1], restorer.device)
        restored = restorer.restore(crop)
        share = alignment.project(mask, matrix, frame, "bilinear", "zeros").to(picture)
        picture = picture * (1 - share) + alignment.project(restored, matrix, frame).to(picture) * share
    return len(faces)


def official(checkout: Checkout, detector: Detector) -> Callable[[Tensor, Restorer, Detector], int]:
    """The checkout's helper, made once, as a way; from bytes to bytes, as it works."""
    helper = checkout.helper(detector)

    def way(picture: Tensor, restorer: Restorer, detector: Detector) -> int:
        photo = np.ascontiguousarray((picture[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()[..., ::-1])
        return checkout.restore_photo(helper, photo, partial(_restore_bytes, restorer))[1]

    return way


def _restore_bytes(restorer: Restorer, face: np.ndarray) -> np.ndarray:
    """A face (512, 512, 3) uint8, BGR."""
    pixels = torch.from_numpy(face[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    side = restorer.config.resolution
    restored = resize(restorer.restore(resize(pixels, (side, side))).cpu(), (int(face.shape[0]), int(face.shape[1])))
    return np.ascontiguousarray((restored[0] * 255).round().byte().permute(1, 2, 0).numpy()[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_face = Path(__file__).parents[1] / "pictures" / "face.png"
    parser.add_argument("--detector", default="builtin", help="name or weight file")
    parser.add_argument("--model-dir", default=None)
    parser.add_argument("--face", default=default_face, help="an aligned face")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--no-network", action="store_true", help="leave faces as they are")
    parser.add_argument("--official", type=Path, help="a checkout of github.com/sczhou/CodeFormer")
    options = parser.parse_args()
    detector = load_detector(options.detector, options.device, folder=options.model_dir)
    restorer = load_restorer("builtin", options.device)
    if options.no_network:
        restorer.restore = lambda faces, *_, **__: faces
    picture = group_picture(read_image(options.face)).to(options.device)
    ways = {"ours": ours, "face by face": face_by_face}
    if options.official is not None:
        ways["official"] = official(Checkout(options.official), detector)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, way in ways.items():
            start, worked = time.perf_counter(), time.process_time()
            count = way(picture, restorer, detector)
            if options.device.type == "cuda":
                torch.cuda.synchronize()
            if number > 0:  # the first round warms up
                taken[name].append((time.perf_counter() - start, time.process_time() - worked))
            elif count != ROWS * COLUMNS:
                raise SystemExit(f"{name}: {count} faces found, there are {ROWS * COLUMNS}; this detector will not do")
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in taken.items()}
    for name, (seconds, work) in medians.items():
        share = seconds / medians["ours"][0]
        print(f"{name:13s} {seconds:7.3f} s   {work:7.3f} s of processor   {share:5.2f} times ours")  # noqa: T201


if __name__ == "__main__":
    main()
