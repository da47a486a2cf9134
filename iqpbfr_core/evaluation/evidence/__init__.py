"""The claims of the method, recomputed on held-out faces: one module per claim, each with its own verdict."""

from .books import two_books_beat_one
from .ceiling import beyond_ground_truth
from .discreteness import discrete_resists
from .helping import helps_the_person
from .plugging import plugs_in
from .scene import Finding, Scene, prepare
from .steering import score_steers

CLAIMS = (
    ("R1", score_steers),
    ("R2", beyond_ground_truth),
    ("R3", two_books_beat_one),
    ("R4", discrete_resists),
    ("R5", plugs_in),
    ("R6", helps_the_person),
)

__all__ = ["CLAIMS", "Finding", "Scene", "prepare"]
