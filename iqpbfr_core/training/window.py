"""Training on a part of the picture: the expensive levels of the generator draw a window, the others the whole face."""

import torch
from torch import Tensor

from ..faces.alignment import TEMPLATE
from ..models.autoencoder import Window
from ..models.code_restorer import CodeRestorer

SHARE = 0.44  # of the picture's side
LEAST = 64  # pixels of a side, which the discriminator needs
MARGIN = 2  # generated around what is shown: a window's border lacks neighbours
FEATURED = 0.5  # share of the windows around an eye or the mouth, most of what people look at
PLACES = torch.cat([TEMPLATE[:2], TEMPLATE[3:].mean(0, keepdim=True)])  # (x, y) as shares of the side


def draw_window(network: CodeRestorer) -> Window:
    """A window at random (torch's seed), in pixels of the map before the generator's local levels; the whole picture
    for a generator that has none."""
    of = network.config.resolution // network.config.head // 2**network.config.local_levels
    if network.config.local_levels == 0:
        return Window(0, 0, of, of, of)
    side = min(of, max(round(SHARE * of), LEAST * of // network.config.resolution))
    u = torch.rand(4).tolist()
    if u[0] < FEATURED:
        x, y = PLACES[int(u[1] * len(PLACES))].tolist()
        top, left = (round(of * middle + side * (0.5 * v - 0.75)) for middle, v in ((y, u[2]), (x, u[3])))
    else:
        # Beyond the border and back, so that the border is seen as often as the middle.
        top, left = (round((of + side) * v) - side for v in u[2:])
    top, left = (min(max(0, first), of - side) for first in (top, left))
    return Window(top, left, top + side, left + side, of)


def generate_window(
    network: CodeRestorer,
    window: Window,
    z_q: Tensor,
    z: Tensor,
    skips: dict[int, Tensor],
    fidelity: Tensor | float,
    adain: bool,
) -> Tensor:
    """That window of the face, float32 in [-1, 1]; as `CodeRestorer.generate`."""
    if network.config.local_levels == 0:
        return network.generate(z_q, z, skips, fidelity, adain).float()
    drawn = window.grown(MARGIN)
    image = network.generate(z_q, z, skips, fidelity, adain, drawn)
    scale = image.shape[-1] // (drawn.right - drawn.left)
    top, left = scale * (window.top - drawn.top), scale * (window.left - drawn.left)
    height, width = scale * (window.bottom - window.top), scale * (window.right - window.left)
    return image[..., top : top + height, left : left + width].float()
