"""All figures of one GPU, as a table in Markdown: meant to take less than ten minutes; nothing to download.

    python benchmarks/gpu.py -o gpu.md [--device cuda] [--faces 8] [--rounds 20] [--official DIR]

For the built-in model and a network of CodeFormer's size, filled by the formula of the tests, in float32, float16 and
bfloat16: seconds per aligned face from bytes to bytes, the mean difference from float32 at fidelity 0 and by default (see
`speed.py`), the most memory that was allocated, and what decoding alone reaches of the multiplications per second that one
large product of bfloat16 matrices reaches there. Then a 4K picture with 12 faces, see `group_photo.py`.

One after the other, because memory is to be told apart: nothing else may run on the GPU. DIR is a checkout of
github.com/sczhou/CodeFormer, whose own loop then has a row.
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from contenders import Contender, codeformer, degraded_faces, ours, theirs
from group_photo import group_picture
from group_photo import ours as whole_photo
from official import Checkout
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from iqpbfr_core import load_detector, load_restorer
from iqpbfr_core.image import read_image
from iqpbfr_core.restorer import Restorer

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
HEAD = ("what", "s", "difference at 0, of 255", "by default", "peak MiB", "decode, of the bf16 product")
FACE = Path(__file__).parents[1] / "pictures" / "face.png"
Row = tuple[str, ...]


def seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median time of `work`, after one that warms up."""
    taken = []
    for _ in range(rounds + 1):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_rate(device: torch.device, side: int, rounds: int) -> float:
    """Operations per second in the product of two (side, side) matrices of bfloat16."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds(lambda: one @ other, device, rounds)


@torch.no_grad()
def decode_rate(restorer: Restorer, faces: Tensor, rounds: int) -> float:
    """Operations per second while decoding faces (N, 3, R, R) uint8 at the default fidelity."""
    features = restorer.encode(faces / 255)
    codes = restorer.lookup(features)

    def decode() -> Tensor:
        return restorer.decode(codes, features, restorer.supports.default_fidelity)

    with FlopCounterMode(display=False) as counter:
        decode()
    return counter.get_total_flops() / seconds(decode, restorer.device, rounds)


def results(contender: Contender, faces: Tensor) -> list[Tensor]:
    """What it makes at fidelity 0 and by default."""
    return [contender.restore(faces, fidelity).float() for fidelity in (0, contender.fidelity)]


def face_row(
    name: str, contender: Contender, device: torch.device, faces: Tensor, wanted: list[Tensor], rounds: int
) -> Row:
    """One contender's figures but for the share; `wanted`: the `results` of float32."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    taken = seconds(lambda: contender.restore(faces, contender.fidelity), device, rounds) / len(faces)
    peak = f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f}" if device.type == "cuda" else ""
    made = results(contender, faces)
    changes = [f"{(one - other).abs().mean():.2f}" for one, other in zip(made, wanted, strict=True)]
    return (name, f"{taken:.4f}", *changes, peak)


def rows(
    models: Mapping[str, Callable[[], Restorer]],
    device: torch.device,
    count: int,
    rounds: int,
    product_side: int,
    official: Path | None = None,
) -> Iterator[Row]:
    """The rows of aligned faces, for models by name; the checkout's loop is compared with the model named CodeFormer."""
    best = product_rate(device, product_side, rounds)
    for name, load in models.items():
        faces = degraded_faces(count, load().config.resolution)
        wanted = results(ours(load().to(device), name), faces)
        for precision, dtype in PRECISIONS.items():
            restorer = load().to(device, dtype)
            row = face_row(f"{name}, a face, {precision}", ours(restorer, name), device, faces, wanted, rounds)
            share = f"{decode_rate(restorer, faces, rounds) / best:.0%}" if precision == "bf16" else ""
            yield (*row, share)
        default = restorer.supports.default_fidelity
        del restorer  # its memory is not the next one's
        if official is not None and name == "CodeFormer":
            contender = theirs(Checkout(official), device, default, name)
            yield (*face_row("official loop, a face, fp32", contender, device, faces, wanted, rounds), "")


def photo_row(restorer: Restorer, device: torch.device, rounds: int) -> Row:
    """The 4K picture with 12 faces."""
    detector, picture = load_detector(device=device), group_picture(read_image(FACE)).to(device)
    taken = seconds(lambda: whole_photo(picture, restorer, detector), device, rounds)
    return ("4K picture with 12 faces, built-in, fp32", f"{taken:.4f}", "", "", "", "")


def table(lines: Iterator[Row]) -> str:
    rule = tuple("---" for _ in HEAD)
    return "\n".join(f"| {' | '.join(line)} |" for line in (HEAD, rule, *lines)) + "\n"


def machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return f"{name}, torch {torch.__version__}, {datetime.date.today().isoformat()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="file for the table")
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--faces", default=8, type=int)
    parser.add_argument("--rounds", default=20, type=int)
    parser.add_argument("--product", default=8192, type=int, help="side of the matrices that are multiplied")
    parser.add_argument("--official", type=Path, help="a checkout of github.com/sczhou/CodeFormer")
    options = parser.parse_args()
    models = {"built-in": load_restorer, "CodeFormer": codeformer}

    def lines() -> Iterator[Row]:
        yield from rows(models, options.device, options.faces, options.rounds, options.product, options.official)
        yield photo_row(load_restorer(device=options.device), options.device, options.rounds)

    options.out.write_text(f"{machine(options.device)}\n\n{table(lines())}")
    print(options.out.read_text())  # noqa: T201


if __name__ == "__main__":
    main()
