"""What passes between the three steps of a restorer: features and codes."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import InputError


@dataclass(frozen=True)
class Features:
    """What the encoder saw: `z` (B, C, t, t) and the maps {resolution: (B, c, s, s)} for fidelity and attention."""

    z: Tensor
    skips: dict[int, Tensor]

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, part: slice | Tensor) -> "Features":
        """Some of the faces."""
        return Features(self.z[part], {side: skip[part] for side, skip in self.skips.items()})

    def to(self, device: torch.device | str) -> "Features":
        """The same on another device."""
        return Features(self.z.to(device), {side: skip.to(device) for side, skip in self.skips.items()})

    @staticmethod
    def cat(parts: "list[Features]") -> "Features":
        """Several batches as one."""
        skips = {side: torch.cat([part.skips[side] for part in parts]) for side in parts[0].skips}
        return Features(torch.cat([part.z for part in parts]), skips)


@dataclass(frozen=True)
class Codes:
    """What the lookup decided.

    Attributes:
        indices: (B, N) for one codebook; (B, N, 2) for two: [..., 0] HQ+, [..., 1] common.
        logits: (B, N, K) or (B, N, K, 2) they were chosen from.
        alpha: weight of the HQ+ codes.
        quality: (B,) score the lookup was told, or (B, metrics) where it takes several; None = no score.
        codebook_id: of the model they were looked up with; "" where nobody knows.
    """

    indices: Tensor
    logits: Tensor
    alpha: float
    quality: Tensor | None
    codebook_id: str = ""

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, part: slice | Tensor) -> "Codes":
        """Some of the faces."""
        quality = None if self.quality is None else self.quality[part]
        return replace(self, indices=self.indices[part], logits=self.logits[part], quality=quality)

    def to(self, device: torch.device | str) -> "Codes":
        """The same on another device."""
        quality = None if self.quality is None else self.quality.to(device)
        return replace(self, indices=self.indices.to(device), logits=self.logits.to(device), quality=quality)

    @staticmethod
    def cat(parts: "list[Codes]") -> "Codes":
        """Several batches as one; they must agree on alpha and on having a quality."""
        first = parts[0]
        quality = None if first.quality is None else torch.cat([part.quality for part in parts])  # type: ignore[misc]
        indices, logits = (torch.cat([getattr(p, name) for p in parts]) for name in ("indices", "logits"))
        return replace(first, indices=indices, logits=logits, quality=quality)

    def with_indices(self, indices: Tensor) -> "Codes":
        """The same decision with other indices."""
        if indices.shape != self.indices.shape:
            raise InputError(f"indices must have shape {tuple(self.indices.shape)}, got {tuple(indices.shape)}.")
        return replace(self, indices=indices)
