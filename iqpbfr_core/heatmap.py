"""Where in a picture is the quality? Scores of overlapping windows."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .image import check_images, resize
from .quality import Metric

WINDOW, STEPS = 0.5, 7  # window as a share of the shorter side; positions along each side
_SMALLEST = 96  # pixels: below, several metrics cannot score


def windows(images: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """(row, column, window) over STEPS x STEPS positions; windows smaller than a metric can score are enlarged."""
    height, width = images.shape[2:]
    side = round(min(height, width) * WINDOW)
    for row in range(STEPS):
        for column in range(STEPS):
            top = round((height - side) * row / (STEPS - 1))
            left = round((width - side) * column / (STEPS - 1))
            window = images[:, :, top : top + side, left : left + side]
            yield row, column, resize(window, (_SMALLEST, _SMALLEST)) if side < _SMALLEST else window


def quality_map(images: Tensor, metric: Metric, on_window: Callable[[], None] = lambda: None) -> Tensor:
    """Scores (B, STEPS, STEPS) in [0, 1] of the windows of images (B, 3, H, W), from top left to bottom right.

    Compare places of one picture with each other: a window is scored as if it were a picture of its own.
    `on_window` is called after each (progress, interruption).
    """
    check_images(images)
    scores = torch.zeros(len(images), STEPS, STEPS)
    for row, column, window in windows(images):
        scores[:, row, column] = metric(window).float().cpu()
        on_window()
    return scores
