"""Seconds per aligned face, and what half precision changes: the built-in model and a network of CodeFormer's size.

    python benchmarks/speed.py [--device cpu] [--rounds 3] [--faces 8] [--official DIR]

All restore the same degraded faces in turn, from bytes to bytes at their default fidelity, so that a busy machine slows all;
medians are shown, of seconds and of what the processor worked. CodeFormer's weights are filled by the formula of the tests: speed does not depend on them, but they
choose codes by a hair's breadth, so that half precision changes more than it may in the published model.

DIR is a checkout of github.com/sczhou/CodeFormer: its own loop then runs beside ours, with the same weights.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from contenders import Contender, codeformer, degraded_faces, ours, theirs
from official import Checkout
from torch import Tensor

from iqpbfr_core import load_restorer


def contenders(device: torch.device, official: Path | None) -> dict[str, Contender]:
    found = {}
    for name, load in (("built-in", load_restorer), ("CodeFormer", codeformer)):
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            found[f"{name}, {precision}"] = ours(load().to(device, dtype), f"{name}, fp32")
    if official is not None:
        default = found["CodeFormer, fp32"].fidelity
        found["official loop, fp32"] = theirs(Checkout(official), device, default, "CodeFormer, fp32")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--faces", default=8, type=int)
    parser.add_argument("--official", type=Path, help="a checkout of github.com/sczhou/CodeFormer")
    options = parser.parse_args()
    rows = contenders(options.device, options.official)
    inputs = {side: degraded_faces(options.faces, side) for side in {row.side for row in rows.values()}}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    at_default: dict[str, Tensor] = {}
    for number in range(options.rounds + 1):
        for name, row in rows.items():
            start, worked = time.perf_counter(), time.process_time()
            at_default[name] = row.restore(inputs[row.side], row.fidelity)  # on the CPU in the end: nothing to wait for
            if number > 0:  # the first round warms up
                taken[name].append((time.perf_counter() - start, time.process_time() - worked))
    at_zero = {name: row.restore(inputs[row.side], 0) for name, row in rows.items()}
    print(f"{'':20} s per face   of processor   mean difference at fidelity 0 and by default, of 255")  # noqa: T201
    for name, row in rows.items():
        changes = [float((made[name].float() - made[row.like].float()).abs().mean()) for made in (at_zero, at_default)]
        seconds, work = (statistics.median(column) / options.faces for column in zip(*taken[name], strict=True))
        print(f"{name:20} {seconds:10.3f}   {work:12.3f}   {changes[0]:.2f} {changes[1]:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
