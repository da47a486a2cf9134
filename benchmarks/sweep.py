"""What a face at eight qualities costs beside one encoding and eight decodings, and beside restoring it eight times.

    python benchmarks/sweep.py [--model builtin] [--device cpu] [--rounds 5]

All are timed in turn on the same face, so that a busy machine slows all; medians are compared.
"""

import argparse
import statistics
import time

import torch

from iqpbfr_core import load_restorer

QUALITIES = torch.linspace(0, 1, 8).tolist()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--rounds", default=5, type=int)
    options = parser.parse_args()
    restorer = load_restorer(options.model, options.device)
    side, fidelity = restorer.config.resolution, restorer.supports.default_fidelity
    face = torch.rand(1, 3, side, side)
    known = restorer.lookup(restorer.encode(face), 1.0)

    def bare() -> None:
        features = restorer.encode(face)
        for _ in QUALITIES:
            restorer.decode(known, features, fidelity)

    def sweep() -> None:
        """As `iqpbfr sweep` and the node Quality Sweep do it."""
        features = restorer.encode(face)
        for quality in QUALITIES:
            restorer.decode(restorer.lookup(features, quality), features, fidelity)

    def again() -> None:
        for quality in QUALITIES:
            restorer.restore(face, quality)

    work = {"one encoding, eight decodings": bare, "sweep": sweep, "eight restorations": again}
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(options.rounds + 1):
        for name, do in work.items():
            start = time.perf_counter()
            do()
            if options.device.type == "cuda":
                torch.cuda.synchronize()
            if number > 0:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, seconds in medians.items():
        print(f"{name:30} {seconds:.3f} s, {seconds / medians['one encoding, eight decodings'] - 1:+.1%}")  # noqa: T201


if __name__ == "__main__":
    main()
