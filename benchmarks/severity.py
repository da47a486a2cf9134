"""Does the built-in metric rank pictures as it should?

By severity: Spearman between strength and score, over all pictures and within each face, per kind of flaw. With restorers
(several states of one, say) also what generators make: Spearman with metrics it never saw, over the faces of all of
them, and whether faces a search has found for it score above clean ones.

python benchmarks/severity.py --data FACES [--every 2] [--strengths 7] [--restorers FILE ...] [--weights FOLDER]
"""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor

from iqpbfr_core import load_restorer, optimize_codes
from iqpbfr_core.degradation import degrade
from iqpbfr_core.quality import Metric, load_metric
from iqpbfr_core.training.data import list_images, read_faces
from iqpbfr_core.training.flaws import KINDS, PHOTOGRAPHIC, flawed

JUDGES = ("niqe", "piqe")
QUALITIES = (0.2, 1.0)
SEARCH_STEPS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="faces, with a sub-folder test or without")
    parser.add_argument("--every", type=int, default=1, help="take every n-th face")
    parser.add_argument("--strengths", type=int, default=7, help="strengths per face, evenly from 0 to 1")
    parser.add_argument("--restorers", nargs="*", default=[], help="weight files, or 'builtin'")
    parser.add_argument("--weights", type=Path, help="folder with NIQE's weights; default: pyiqa's cache")
    options = parser.parse_args()
    faces = read_faces(list_images(options.data, "test")[:: options.every], 256)
    console, metric = Console(), load_metric()
    console.print(by_severity(metric, faces, torch.linspace(0, 1, options.strengths).tolist()))
    if options.restorers:
        console.print(by_judges(metric, faces, options.restorers, options.weights))


@torch.inference_mode()
def by_severity(metric: Metric, faces: Tensor, strengths: list[float]) -> Table:
    title = f"{len(faces)} faces, {len(strengths)} strengths each"
    table = Table("flaw", "Spearman", "within a face", title=title)
    for name, kinds in (*((kind, (kind,)) for kind in KINDS), ("all of a photograph's", PHOTOGRAPHIC)):
        scores = []
        for number, face in enumerate(track(faces, name, transient=True)):
            drawn = [flawed(face, dict.fromkeys(kinds, strength), number) for strength in strengths]
            scores.append(metric(torch.stack(drawn)).tolist())
        together = spearmanr(strengths * len(faces), [score for row in scores for score in row]).statistic
        within = sum(spearmanr(strengths, row).statistic for row in scores) / len(scores)
        table.add_row(name, f"{-together:.3f}", f"{-within:.3f}")
    return table


def by_judges(metric: Metric, faces: Tensor, restorers: list[str], weights: Path | None) -> Table:
    judges = {name: load_metric(name, folder=weights) for name in JUDGES}
    lq = degrade(faces, "full", 0)
    made, searched = [], []
    for name in restorers:
        restorer = load_restorer(name)
        with torch.no_grad():
            features = restorer.encode(lq)
            codes = restorer.lookup(features, 1.0)
            made += [restorer.decode(restorer.lookup(features, quality), features) for quality in QUALITIES]
        found = optimize_codes(restorer, codes, features, metric, SEARCH_STEPS, max_changed=0.5, fidelity=0.0, chunk=4)
        searched.append(found.images)
    images = torch.cat(made)
    with torch.no_grad():
        own = torch.cat([metric(part) for part in images.split(8)])
        table = Table(
            "", "built-in metric", title=f"{len(images)} faces made by {len(restorers)} restorers from `full`"
        )
        for name, judge in judges.items():
            theirs = torch.cat([judge(image) for image in images.split(1)])
            table.add_row(f"Spearman with {name}", f"{spearmanr(own, theirs).statistic:.3f}")
        table.add_row("clean faces", f"{metric(faces).mean():.3f}")
        for name, found in zip(restorers, searched, strict=True):
            table.add_row(f"faces searched with {Path(name).name}", f"{metric(found).mean():.3f}")
    return table


if __name__ == "__main__":
    main()
