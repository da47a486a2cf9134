"""What a step of `optimize_codes` costs beside the generator's and the metric's own forward and backward pass.

    python benchmarks/optimize.py [--model builtin] [--device cpu] [--steps 10] [--batch 1]

Both are timed alternately on the same codes, so that a busy machine slows both; medians are compared.
"""

import argparse
import statistics
import time

import torch

from iqpbfr_core import load_metric, load_restorer, optimize_codes
from iqpbfr_core.image import from_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--steps", default=10, type=int)
    parser.add_argument("--batch", default=1, type=int)
    parser.add_argument("--rounds", default=3, type=int)
    options = parser.parse_args()
    restorer, metric = load_restorer(options.model, options.device), load_metric("builtin", options.device)
    side = restorer.config.resolution
    with torch.no_grad():
        features = restorer.encode(torch.rand(options.batch, 3, side, side))
        codes = restorer.lookup(features)
        z_q = restorer.quantise(codes, features)

    def bare() -> None:
        """As many passes as `optimize_codes` makes: one forward at the start, and one of each per step."""
        for step in range(options.steps + 1):
            variable = z_q.clone().requires_grad_()
            score = metric(from_network(restorer.generate(variable, features, codes.quality, 0.0, True)))
            if step < options.steps:
                score.sum().backward()

    def ours() -> None:
        optimize_codes(restorer, codes, features, metric, options.steps)

    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for number in range(options.rounds + 1):
        for name, work in (("bare", bare), ("ours", ours)):
            start = time.perf_counter()
            work()
            if options.device.type == "cuda":
                torch.cuda.synchronize()
            if number > 0:  # the first round warms up
                times[name].append((time.perf_counter() - start) / options.steps)
    bare_time, our_time = (statistics.median(times[name]) for name in ("bare", "ours"))
    print(f"generator and metric {bare_time:.4f} s per step")  # noqa: T201
    print(f"optimize_codes       {our_time:.4f} s per step, {our_time / bare_time - 1:+.1%}")  # noqa: T201


if __name__ == "__main__":
    main()
