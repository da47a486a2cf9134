"""Beyond the average at inference: discrete optimisation of quality, its baselines, and restoring to a wanted score."""

from .codes import optimize_codes
from .latent import ascend_latent
from .objective import WeightedMean, WorstOf
from .result import LatentResult, OptimizationResult, Progress, Trace
from .samples import sample_codes
from .target import TargetResult, restore_to_target

__all__ = [
    "LatentResult",
    "OptimizationResult",
    "Progress",
    "TargetResult",
    "Trace",
    "WeightedMean",
    "WorstOf",
    "ascend_latent",
    "optimize_codes",
    "restore_to_target",
    "sample_codes",
]
