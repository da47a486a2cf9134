"""Fidelity to what is coarse in a degraded picture: its errors there and a generator's differ, and partly average out."""

from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

SIGMA = 1.5 / 256  # of the Gaussian that parts coarse from fine, in sides of the picture


def keep_coarse(image: Tensor, picture: Tensor, share: float | Tensor) -> Tensor:
    """Replace a share of what is coarse in `image` by the same of `picture`; both (B, 3, H, W).

    share: number or (B, 1, 1, 1) in [0, 1]. Most of the noise of `picture` is finer than SIGMA and stays away.
    """
    sigma = SIGMA * image.shape[-1]
    size = 2 * round(3 * sigma) + 1
    return image + share * gaussian_blur(picture - image, [size, size], [sigma, sigma])
