"""Learning the dual codebook without gradients: moving averages of the tokens each code wins.

The common book quantises every token. On images of high quality the HQ+ book quantises what the common code left
over, so each book holds a different thing by construction; or, with `residual_hq` off, the same tokens once more, as in
the paper. Entry 0 of the HQ+ book stays the zero vector, "nothing to add": the codes of all other images, which makes
the gate a code like any other to the lookup.
Moving averages: van den Oord et al. 2017, appendix; revival of dead codes: Dhariwal et al. 2020 (Jukebox).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.code_restorer import CodeRestorer
from ..models.codebook import Codebook, to_tokens

DECAY = 0.99
DEAD = 0.03  # tokens per batch, on average, under which a code is replaced


class _MovingAverage(nn.Module):
    """Moving averages for one codebook; `first` entries at the start are left alone."""

    counts: Tensor
    sums: Tensor

    def __init__(self, book: Codebook, first: int) -> None:
        super().__init__()
        self.book, self.first = book, first
        size, dim = book.embedding.weight.shape
        self.register_buffer("counts", torch.ones(size - first))
        self.register_buffer("sums", torch.zeros(size - first, dim))

    @torch.no_grad()
    def initialise(self, tokens: Tensor) -> None:
        """Start every entry at a random token (M, C)."""
        chosen = tokens[torch.randint(len(tokens), (len(self.counts),))]
        chosen = chosen + 0.01 * tokens.std() * torch.randn_like(chosen)
        self.book.embedding.weight[self.first :] = chosen
        self.sums.copy_(chosen)
        self.counts.fill_(1)

    @torch.no_grad()
    def update(self, tokens: Tensor, indices: Tensor) -> None:
        """tokens (M, C) were quantised to entries `indices` (M,) of the book, all >= first."""
        if len(tokens) == 0:
            return
        places = indices - self.first
        won = torch.zeros_like(self.counts).index_add_(0, places, torch.ones_like(places, dtype=self.counts.dtype))
        total = torch.zeros_like(self.sums).index_add_(0, places, tokens)
        self.counts.lerp_(won, 1 - DECAY)
        self.sums.lerp_(total, 1 - DECAY)
        dead = (self.counts < DEAD).nonzero()[:, 0]
        if len(dead):
            revived = tokens[torch.randint(len(tokens), (len(dead),), device=tokens.device)]
            self.sums[dead], self.counts[dead] = revived, torch.ones_like(self.counts[dead])
        self.book.embedding.weight[self.first :] = self.sums / self.counts[:, None].clamp(min=1e-6)


class DualQuantiser(nn.Module):
    """Tokens to codes and back for training, and the moving averages behind both books."""

    is_initialised: Tensor

    def __init__(self, network: CodeRestorer) -> None:
        super().__init__()
        self.common = _MovingAverage(network.quantize, first=0)
        self.is_residual = network.config.residual_hq
        self.hq = _MovingAverage(network.quantize_aesthetic, first=1) if network.config.num_hq_codes else None
        self.register_buffer("is_initialised", torch.zeros((), dtype=torch.bool))
        if self.hq is not None:
            with torch.no_grad():
                network.quantize_aesthetic.embedding.weight[0] = 0

    @torch.no_grad()
    def adopt(self) -> None:
        """Start from the codebooks as they are: every code keeps its place as if it had just won one token."""
        for average in (self.common, self.hq):
            if average is not None:
                average.sums.copy_(average.book.embedding.weight[average.first :])
                average.counts.fill_(1)
        self.is_initialised.fill_(True)

    @torch.no_grad()
    def indices(self, z: Tensor, is_hq: Tensor) -> Tensor:
        """Codes (B, N, books) of features (B, C, t, t); images that are not `is_hq` (B,) get HQ+ code 0."""
        tokens = to_tokens(z.float())
        common = self.common.book.nearest(tokens)
        if self.hq is None:
            return common[..., None]
        distances = self.hq.book.distances(self._for_hq(tokens, common))
        hq = distances[..., 1:].argmin(-1) + 1
        return torch.stack([hq * is_hq[:, None], common], dim=-1)

    def _for_hq(self, tokens: Tensor, common: Tensor) -> Tensor:
        """What the HQ+ book is to quantise of tokens (..., C) whose common codes (...) are known."""
        return tokens - self.common.book.lookup(common, tokens) if self.is_residual else tokens

    def commitment(self, z: Tensor, z_q: Tensor, indices: Tensor) -> Tensor:
        """Squared distance of features z to what must equal them: the sum z_q of their codes, or each code by itself."""
        if self.hq is None or self.is_residual:
            return F.mse_loss(z, z_q)
        tokens, is_hq = to_tokens(z), indices[..., :1] > 0
        hq, common = (
            book.lookup(k, tokens) for book, k in zip((self.hq.book, self.common.book), indices.unbind(-1), strict=True)
        )
        return F.mse_loss(tokens, common) + F.mse_loss(tokens * is_hq, hq * is_hq)

    @torch.no_grad()
    def update(self, z: Tensor, indices: Tensor) -> None:
        """Move both books towards the tokens they were chosen for."""
        tokens, common = to_tokens(z.float()).flatten(0, 1), indices[..., -1].flatten()
        for_hq = self._for_hq(tokens, common)
        self.common.update(tokens, common)
        if self.hq is not None:
            hq = indices[..., 0].flatten()
            self.hq.update(for_hq[hq > 0], hq[hq > 0])

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        tokens = to_tokens(z.float()).flatten(0, 1)
        self.common.initialise(tokens)
        if self.hq is not None:
            self.hq.initialise(self._for_hq(tokens, self.common.book.nearest(tokens[None])[0]))
        self.is_initialised.fill_(True)


def perplexity(indices: Tensor, size: int) -> Tensor:
    """exp(entropy) of code use: how many codes are in real use; 1 where there are none."""
    share = torch.bincount(indices.flatten(), minlength=size).float() / max(1, indices.numel())
    return torch.exp(-(share * (share + 1e-10).log()).sum())
