"""What restorers get wrong, for a quality model to learn from: wrong codes, and what climbing that very model finds."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..image import from_network, to_network
from ..models.code_restorer import CodeRestorer
from ..restorer import choose_codes

SEARCHES = 6  # steps of a search
RATE = 0.15  # size of a step, in standard deviations of the quantised features
KEPT = 32  # faces found by searches that are shown again


class Mistakes(nn.Module):
    """A restorer's mistakes. What searches found is part of the state, the restorer is not."""

    images: Tensor
    clean: Tensor
    count: Tensor

    def __init__(self, restorer: CodeRestorer) -> None:
        super().__init__()
        self._restorer = [restorer.eval().requires_grad_(False)]  # in a list, out of the state
        side = restorer.config.resolution
        self.register_buffer("images", torch.zeros(KEPT, 3, side, side))
        self.register_buffer("clean", torch.zeros(KEPT, 3, side, side))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @property
    def restorer(self) -> CodeRestorer:
        return self._restorer[0]

    @torch.no_grad()
    def made(self, faces: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Each face (B, 3, R, R) as the restorer makes it, then each with a share of its codes drawn at random or against
        the odds: (2 B, 3, R, R) in [0, 1], and the shares (B,)."""
        shares = 0.05 + 0.6 * torch.rand(len(faces), device=faces.device)
        z, logits = self._look_up(faces)
        first = choose_codes(logits, 0.0, step)
        drawn = choose_codes(logits, 3.0, step) if step % 2 else torch.randint_like(first, logits.shape[2])
        varies = torch.rand(first.shape[:2], device=faces.device) < shares[:, None]
        indices = torch.cat([first, torch.where(varies[..., None], drawn, first)])
        z_q = self.restorer.quantise(indices, self.restorer.config.alpha, like=z)
        return from_network(self.restorer.generate(z_q, torch.cat([z, z]), {}, 0.0)), shares

    def search(self, faces: Tensor, score: Callable[[Tensor], Tensor]) -> None:
        """Climb `score` in the restorer's feature space, without bounds, and keep what was found."""
        with torch.no_grad():
            z, logits = self._look_up(faces)
            z_q = self.restorer.quantise(logits.argmax(2), self.restorer.config.alpha, like=z.float())
        rate = RATE * z_q.std()
        for _ in range(SEARCHES):
            z_q.requires_grad_()
            (gradient,) = torch.autograd.grad(score(self._decode(z_q, z)).sum(), z_q)
            size = gradient.flatten(1).norm(dim=1)[:, None, None, None] / math.sqrt(gradient[0].numel())
            z_q = (z_q + rate * gradient / (size + 1e-12)).detach()
        with torch.no_grad():
            places = (self.count + torch.arange(len(faces), device=faces.device)) % KEPT
            self.images[places], self.clean[places] = self._decode(z_q, z), faces
            self.count += len(faces)

    def found(self, count: int, step: int) -> tuple[Tensor, Tensor]:
        """`count` of what searches found, and as many of the faces they began with."""
        chosen = (torch.arange(count, device=self.count.device) * 5 + step) % self.count.clamp(1, KEPT)
        return self.images[chosen], self.clean[chosen]

    def _look_up(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Features told the best score, and their logits."""
        z, _ = self.restorer.encode(to_network(faces))
        best = torch.ones(len(faces), device=faces.device)
        z = self.restorer.condition(z, best)
        return z, self.restorer.logits(z, best).float()

    def _decode(self, z_q: Tensor, z: Tensor) -> Tensor:
        return from_network(self.restorer.generate(z_q, z, {}, 0.0))
