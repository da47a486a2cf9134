"""Seconds until the program answers: new processes, medians of rounds after a first one that fills the caches.

    python benchmarks/start.py [--rounds 5]

The core imports torch only when something is computed, so neither its import nor `--help` should wait for it.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STARTS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import iqpbfr_core": ["-c", "import iqpbfr_core"],
    "iqpbfr --help": ["-m", "iqpbfr_core", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """How long a Python with these arguments lives."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    taken = [{name: seconds(arguments) for name, arguments in STARTS.items()} for _ in range(rounds + 1)][1:]
    for name in STARTS:
        print(f"{name:20} {statistics.median(row[name] for row in taken):.2f} s")  # noqa: T201


if __name__ == "__main__":
    main()
