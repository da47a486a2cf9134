"""FID: how far apart two sets of faces are, as sets (Heusel et al. 2017, arXiv 1706.08500), on pyiqa's features.

Resized as clean-fid does (Parmar et al. 2022, arXiv 2104.11222). With few faces it is too large, the more the fewer, so
only values of as many faces compare.
"""

from pathlib import Path

import numpy as np
import torch

from .. import pyiqa_metrics
from ..download import Progress
from ..errors import InputError
from .measures import Scale

FID = Scale("fid", "FID", True)
Statistics = tuple[np.ndarray, np.ndarray]  # mean and covariance of features


class FrechetDistance:
    """Between folders of pictures, or a folder and a file of statistics.

    Args:
        weights: folder with pyiqa's `pt_inception-2015-12-05-6726825d.pth`.
        download: whether it may be downloaded into that folder; `progress` is told how far that is.
        device: where the features are computed.

    Raises:
        WeightsNotFoundError: it is not there, and `download` is off.
    """

    def __init__(
        self,
        weights: Path,
        download: bool = False,
        progress: Progress | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network = pyiqa_metrics.load_inception(weights, download, progress).to(self.device)

    def __call__(self, faces: Path, reference: Statistics) -> float:
        """FID of the pictures in a folder."""
        return frechet_distance(self.statistics(faces), reference)

    def statistics(self, faces: Path) -> Statistics:
        """Of all pictures in a folder, at least two."""
        from pyiqa.archs.fid_arch import get_folder_features

        features = get_folder_features(str(faces), self.network, num_workers=0, device=self.device, verbose=False)
        if len(features) < 2:
            raise InputError(f"FID compares sets: {faces} has {len(features)} picture, give it at least two.")
        return features.mean(0), np.cov(features, rowvar=False)


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """Squared Fréchet distance of two normal distributions, |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2).

    The last root's trace is that of (C1^1/2 C2 C1^1/2)^1/2, which is symmetric: its eigenvalues are real and stay exact
    where there are fewer pictures than features.
    """
    (mean_1, covariance_1), (mean_2, covariance_2) = first, second
    values, vectors = np.linalg.eigh(covariance_1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    common = np.sqrt(np.linalg.eigvalsh(root @ covariance_2 @ root).clip(0)).sum()
    return float(np.square(mean_1 - mean_2).sum() + np.trace(covariance_1) + np.trace(covariance_2) - 2 * common)


def read_statistics(file: Path) -> Statistics:
    """Mean and covariance from a .npz file with `mu` and `sigma`, such as pyiqa's of FFHQ."""
    try:
        with np.load(file, allow_pickle=False) as content:
            mean, covariance = content["mu"], content["sigma"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file} is no file of FID statistics: a .npz with mu and sigma ({error}).") from error
    if mean.shape != (2048,) or covariance.shape != (2048, 2048):
        raise InputError(
            f"{file} has statistics of shape {mean.shape} and {covariance.shape}, FID's are of 2048 features."
        )
    return mean, covariance
