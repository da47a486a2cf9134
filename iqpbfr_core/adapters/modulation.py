"""What a score does to every place of a network."""

from torch import Tensor, nn
from torch.nn.functional import silu

from ..layers.conditioning import ScoreEmbedding
from ..layers.modulation import modulate, zero_linear
from ..models.family import Network, Site

EMBEDDING_DIM = 64
# Places that are no modules: what a network's lookup is given, and what it answers.
FEATURES, LOGITS = "features", "logits"


class ScoreModulation(nn.Module):
    """A score to the numbers by which sites are modulated, all zero before training."""

    def __init__(self, num_values: int) -> None:
        super().__init__()
        self.embedding = ScoreEmbedding(EMBEDDING_DIM)
        self.values = zero_linear(EMBEDDING_DIM, num_values)

    def forward(self, score: Tensor) -> Tensor:
        """(B,) in [0, 1] -> (B, num_values), where and as precise as this network's weights are."""
        return self.values(silu(self.embedding.embed(score, like=self.values.weight)))


def sites_of(network: Network) -> tuple[Site, ...]:
    """Every place of a network that a score modulates, in the order of an adapter's numbers.

    Layers that the family names; with codes, the features before the lookup; and where nothing but a distance or a
    linear layer makes logits of these, the logits.
    """
    config, has_codes = network.config, bool(network.codebooks)
    features = (Site(FEATURES, config.code_dim),) if has_codes else ()
    logits = (Site(LOGITS, config.num_codes),) if has_codes and not config.lookup_layers else ()
    return (*features, *logits, *network.sites)


def modulate_site(site: Site, values: Tensor, x: Tensor) -> Tensor:
    """`x`, maps (B, C, H, W), tokens (B, N, C) or vectors (B, C), with its channels modulated by `values` (B, num_values)."""
    where = {2: (..., slice(None)), 3: (slice(None), None), 4: (..., None, None)}[x.ndim]
    values = values.to(x)
    if site.is_gate:
        return modulate(x, 0.0, values[where])
    shift, scale = values.chunk(2, dim=1)
    return modulate(x, shift[where], scale[where])
