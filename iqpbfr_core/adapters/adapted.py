"""A restorer that is told a score by an adapter, while its network stays as it is."""

import contextlib
from dataclasses import replace
from functools import partial

from torch import Tensor

from ..config import Supports
from ..models.codebook import Codebook
from ..models.family import Network
from ..restorer import Restorer
from .hooks import Change, changing_outputs
from .modulation import FEATURES, LOGITS, ScoreModulation, modulate_site, sites_of


class AdaptedNetwork(Network):
    """`base` with its features, logits and layers modulated by a score. The null condition is the base's own answer.

    Args:
        base: shared, not copied, and not changed.
        modulation: for the base's `sites_of`; may lie on another device and be of another precision.
        metric, score_range: as in `RestorerConfig`.
    """

    def __init__(
        self,
        base: Network,
        modulation: ScoreModulation,
        metric: str = "",
        score_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        self.base = base  # first, since the first weight says what device and dtype a network has
        self.modulation = modulation
        self.config = replace(base.config, conditioning="adaln", metric=metric, score_range=score_range)
        self._sites = sites_of(base)

    @property
    def supports(self) -> Supports:
        return replace(self.base.supports, quality=(0.0, 1.0), scores=(self.config.score_range,))

    @property
    def codebooks(self) -> tuple[Codebook, ...]:
        return self.base.codebooks

    def score(self, quality: Tensor) -> Tensor:
        low, high = self.config.score_range
        return low + quality * (high - low)

    def _changes(self, score: Tensor | None) -> dict[str, Change]:
        """What a score (B,) does, by name of the site; None does nothing."""
        if score is None:
            return {}
        values = self.modulation(score).split([site.num_values for site in self._sites], dim=1)
        return {site.name: partial(modulate_site, site, part) for site, part in zip(self._sites, values, strict=True)}

    def telling(self, score: Tensor | None) -> contextlib.AbstractContextManager[None]:
        changes = self._changes(score)
        return changing_outputs(self.base, {n: c for n, c in changes.items() if n not in (FEATURES, LOGITS)})

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        return self.base.encode(images)

    def condition(self, z: Tensor, score: Tensor | None) -> Tensor:
        change = self._changes(score).get(FEATURES)
        return z if change is None else change(z)

    def logits(self, z: Tensor, score: Tensor | None) -> Tensor:
        with self.telling(score):
            logits = self.base.logits(z, None)
        change = self._changes(score).get(LOGITS)
        return logits if change is None else change(logits[..., 0])[..., None]

    def quantise(self, indices: Tensor, alpha: Tensor | float, like: Tensor) -> Tensor:
        return self.base.quantise(indices, alpha, like)

    def mix(self, weights: Tensor, alpha: Tensor | float) -> Tensor:
        return self.base.mix(weights, alpha)

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        return self.base.generate(z_q, z, skips, fidelity, adain)


class AdaptedRestorer(Restorer):
    """What `ScoreAdapter.attach` gives: a restorer as any other, and the one it was made of."""

    def __init__(self, base: Restorer, network: AdaptedNetwork) -> None:
        super().__init__(network, base._compute_device)
        self._base = base

    def detach(self) -> Restorer:
        """The restorer without the adapter, the very one it was attached to."""
        return self._base
