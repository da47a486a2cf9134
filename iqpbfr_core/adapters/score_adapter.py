"""The adapter: a score's modulation, and the card that says which restorer it belongs to."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from ..checkpoint import read_weights
from ..errors import CheckpointError, InputError
from ..image import write_atomically
from ..restorer import Restorer, sign_digest
from ..tensor_file import check_weights
from .adapted import AdaptedNetwork, AdaptedRestorer
from .card import AdapterCard
from .modulation import ScoreModulation, sites_of


@dataclass(frozen=True)
class ScoreAdapter:
    """Tells restorers with the card's codebook a score; `network` says what to change in them."""

    card: AdapterCard
    network: ScoreModulation

    def attach(self, restorer: Restorer) -> AdaptedRestorer:
        """`restorer` with a quality. The two share their weights, so they move together, and the adapter follows.

        Raises:
            InputError: another restorer than the adapter's own, or one that is told a quality already.
        """
        self.check_base(restorer)
        network = AdaptedNetwork(restorer.network, self.network, self.card.metric, self.card.score_range)
        return AdaptedRestorer(restorer, network)

    def check_base(self, restorer: Restorer) -> None:
        """Raise InputError unless `attach` takes this restorer."""
        count, known = _num_values(restorer), (self.card.family, self.card.codebook_id)
        given = (restorer.config.family, _codebook_id(restorer))
        if known != given:
            raise InputError(
                f"this score adapter belongs to a {known[0]} (codebook {known[1]}), the model is a {given[0]} (codebook "
                f"{given[1]}). Load the model it was trained for, or train one for this model (iqpbfr train adapter)."
            )
        if count != self.network.values.out_features:
            raise InputError(
                f"this score adapter has {self.network.values.out_features} values for the layers of a {known[0]}, the "
                f"model needs {count}: it is a {known[0]} of another size. Load the model it was trained for."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.safetensors` file in half precision, with the card inside."""
        if Path(path).suffix.lower() != ".safetensors":
            raise CheckpointError(f"{path}: adapters are written as .safetensors, choose such a name.")
        weights = {key: value.detach().half().cpu().contiguous() for key, value in self.network.state_dict().items()}
        write_atomically(path, save(weights, self.card.to_metadata()))


def new_adapter(restorer: Restorer, seed: int = 0) -> ScoreAdapter:
    """An untrained adapter, which changes nothing yet: attached, it is the restorer bit for bit at every quality.

    Raises InputError for a restorer that is told a quality already, or has no layers that could be modulated.
    """
    count = _num_values(restorer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ScoreModulation(count)
    return ScoreAdapter(AdapterCard(restorer.config.family, _codebook_id(restorer)), network)


def load_adapter(path: str | os.PathLike[str], restorer: Restorer | None = None) -> ScoreAdapter:
    """Read an adapter that `ScoreAdapter.save` wrote.

    Args:
        restorer: what it will be attached to; None leaves the check to `attach`.

    Raises:
        CheckpointError: the file cannot be read, or is no score adapter.
        InputError: it belongs to another restorer.
    """
    weights, metadata = read_weights(path)
    try:
        card = AdapterCard.from_metadata(metadata)
        with torch.device("meta"):
            network = ScoreModulation(weights["values.bias"].numel() if "values.bias" in weights else 1)
        check_weights(network.state_dict(), weights, "a score adapter")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    network.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    adapter = ScoreAdapter(card, network.eval().requires_grad_(False))
    if restorer is not None:
        adapter.check_base(restorer)
    return adapter


def _num_values(restorer: Restorer) -> int:
    """How many numbers modulate this restorer; InputError where an adapter has no place."""
    if restorer.has_quality:
        raise InputError(
            f"this {restorer.config.family} model is told a quality already, by its training or by an adapter; it takes no "
            "score adapter. Use it as it is, or the model the adapter was attached to."
        )
    restorer.check_task("restore", "colorize", "inpaint")
    count = sum(site.num_values for site in sites_of(restorer.network))
    if not count:
        raise InputError(
            f"{restorer.config.family} models have no layers that a score adapter could modulate; use another kind of model."
        )
    return count


def _codebook_id(restorer: Restorer) -> str:
    """As `AdapterCard.codebook_id`."""
    if restorer.supports.codes:
        return restorer.codebook_id
    layers = (restorer.network.get_submodule(site.name) for site in restorer.network.sites)
    return sign_digest(weight for layer in layers for weight in layer.parameters())
