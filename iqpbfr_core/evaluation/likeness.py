"""Is it still the same person, and does it look like the original? Judged by networks that no loss has ever seen."""

import os

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..faces.alignment import TEMPLATE
from ..faces.detection import load_detector
from ..models.retinaface import to_retinaface

_SIDE = 150  # pixels of the picture that the recogniser takes
_EYES = torch.tensor([[47.7, 47.1], [100.3, 47.1]]) / _SIDE  # where it has the eyes, as shares of the side


class IdentityJudge:
    """Distance between two pictures of an aligned face in the space of dlib's face recogniser (King 2017; CC0).

    Args:
        path: the network as TorchScript, (B, 3, 150, 150) in [0, 255] -> (B, 128). TorchScript is a program: give it
            files of people you trust only.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.network = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path}: not a TorchScript file ({str(error).splitlines()[0]}).") from error
        (x0, y0), (x1, _) = TEMPLATE[:2].float().tolist()
        (u0, v0), (u1, _) = _EYES.tolist()
        scale = (x1 - x0) / (u1 - u0)  # shares of the recogniser's picture to shares of the face
        offset = (2 * (x0 - scale * u0) + scale - 1, 2 * (y0 - scale * v0) + scale - 1)
        self.matrix = torch.tensor([[scale, 0.0, offset[0]], [0.0, scale, offset[1]]])

    def distance(self, images: Tensor, references: Tensor) -> Tensor:
        """(B, 3, R, R) in [0, 1] twice -> (B,); the same person where it is under about 0.6."""
        return (self._embed(images) - self._embed(references)).norm(dim=1)

    @torch.no_grad()
    def _embed(self, images: Tensor) -> Tensor:
        size = [len(images), 3, _SIDE, _SIDE]
        grid = F.affine_grid(self.matrix.expand(len(images), -1, -1), size, align_corners=False)
        return self.network(255 * F.grid_sample(images.cpu().float(), grid, "bilinear", align_corners=False))


class FeatureJudge:
    """Perceptual distance of faces: of unit-length features of a RetinaFace's backbone, as LPIPS without learnt weights
    (Zhang et al. 2018, arXiv 1801.03924).

    Args:
        path: RetinaFace weights, as for `load_detector`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.detector = load_detector(path)

    @torch.no_grad()
    def distance(self, images: Tensor, references: Tensor) -> Tensor:
        """(B, 3, R, R) in [0, 1] twice -> (B,), 0 = the same."""
        ours, theirs = (self._features(x) for x in (images, references))
        return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in zip(ours, theirs, strict=True)]).sum(0)

    def _features(self, images: Tensor) -> list[Tensor]:
        maps = self.detector.network.body(to_retinaface(images.cpu().float()))
        return [F.normalize(x, dim=1) for x in maps]
