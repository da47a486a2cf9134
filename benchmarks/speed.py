"""Seconds per face of the built-in model against a network of CodeFormer's size, in one run.

    python benchmarks/speed.py [--device cpu] [--rounds 5]

Both restore one face per round, alternately, so that a busy machine slows both; medians are compared. CodeFormer's
weights are random: speed does not depend on them.
"""

import argparse
import statistics
import time

import torch

from iqpbfr_core import load_restorer
from iqpbfr_core.checkpoint import build_network
from iqpbfr_core.config import RestorerConfig
from iqpbfr_core.restorer import Restorer


def seconds(restorer: Restorer, device: torch.device) -> float:
    """Time of restoring one face at fidelity 0.5."""
    face = torch.rand(1, 3, restorer.config.resolution, restorer.config.resolution, device=device)
    start = time.perf_counter()
    restorer.restore(face)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--rounds", default=5, type=int)
    options = parser.parse_args()
    restorers = {
        "built-in": load_restorer("builtin", options.device),
        "CodeFormer size": Restorer(build_network(RestorerConfig())).to(options.device),
    }
    times: dict[str, list[float]] = {name: [] for name in restorers}
    for number in range(options.rounds + 1):
        for name, restorer in restorers.items():
            took = seconds(restorer, options.device)
            if number > 0:  # the first round warms up
                times[name].append(took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:16s} {median:7.3f} s per face")  # noqa: T201
    print(f"ratio            {medians['CodeFormer size'] / medians['built-in']:7.1f}")  # noqa: T201


if __name__ == "__main__":
    main()
