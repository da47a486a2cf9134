"""The claims of the method, recomputed on held-out faces: one module per claim, each with its own verdict."""

from .ceiling import beyond_ground_truth
from .discreteness import discrete_beats_continuous
from .scene import Finding, Scene, prepare
from .steering import score_steers

CLAIMS = (("R1", score_steers), ("R2", beyond_ground_truth), ("R4", discrete_beats_continuous))

__all__ = ["CLAIMS", "Finding", "Scene", "prepare"]
