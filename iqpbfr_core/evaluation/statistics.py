"""How sure a number is: rank correlation, and bootstrap intervals over faces."""

from collections.abc import Callable

import numpy as np

ROUNDS = 2000


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation of two vectors, ties sharing their mean rank; 0 where one of them is constant."""
    x_ranks, y_ranks = _ranks(x), _ranks(y)
    if x_ranks.std() == 0 or y_ranks.std() == 0:
        return 0.0
    return float(np.corrcoef(x_ranks, y_ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def bootstrap(values: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int = 0) -> tuple[float, float]:
    """95 % interval (percentiles) of `statistic` when the faces, rows of `values`, are drawn again with replacement."""
    random = np.random.default_rng(seed)
    draws = random.integers(0, len(values), (ROUNDS, len(values)))
    low, high = np.percentile([statistic(values[draw]) for draw in draws], (2.5, 97.5))
    return float(low), float(high)


def mean_interval(values: np.ndarray, seed: int = 0) -> str:
    """`mean [low, high]` over faces; missing values are left out."""
    present = values[np.isfinite(values)]
    if not len(present):
        return "-"
    low, high = bootstrap(present, lambda drawn: float(drawn.mean()), seed)
    return f"{present.mean():.4f} [{low:.4f}, {high:.4f}]"
