"""Does the built-in metric order severity? Spearman between strength and score, per kind of degradation.

python benchmarks/severity.py --data FACES [--every 2] [--strengths 7]
"""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr

from iqpbfr_core.quality import load_metric
from iqpbfr_core.training.data import list_images, read_faces
from iqpbfr_core.training.flaws import KINDS, PHOTOGRAPHIC, flawed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="faces, with a sub-folder test or without")
    parser.add_argument("--every", type=int, default=1, help="take every n-th face")
    parser.add_argument("--strengths", type=int, default=7, help="strengths per face, evenly from 0 to 1")
    options = parser.parse_args()
    files = list_images(options.data, "test")[:: options.every]
    strengths = torch.linspace(0, 1, options.strengths).tolist()
    metric = load_metric()
    table = Table("degradation", "Spearman", title=f"{len(files)} faces, {len(strengths)} strengths each")
    with torch.inference_mode():
        for name, kinds in (*((kind, (kind,)) for kind in KINDS), ("all of a photograph's", PHOTOGRAPHIC)):
            given, scored = [], []
            for number, file in enumerate(track(files, name, transient=True)):
                face = read_faces([file], 256)
                drawn = [flawed(face[0], dict.fromkeys(kinds, strength), number) for strength in strengths]
                scored += metric(torch.stack(drawn)).tolist()
                given += strengths
            table.add_row(name, f"{-spearmanr(given, scored).statistic:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
