"""Who knows which codes a good face has."""

from collections.abc import Callable

from torch import Tensor

from ..errors import TrainingError
from ..models.codebook import to_tokens
from ..models.daefr import DAEFR
from ..restorer import Restorer

Teacher = Callable[[Tensor], Tensor]  # faces (B, 3, R, R) in [-1, 1] -> codes (B, N)
FAMILIES = ("stage_one", "iqpbfr")  # whose encoders see faces as they are, or can


def find_teacher(base: Restorer, given: Restorer | None = None) -> Teacher | None:
    """A teacher for a restorer with one codebook, or None where there is none.

    Args:
        given: the autoencoder `base` was built on: CodeFormer's `vqgan_code1024.pth`, or a result of `train autoencoder`.
            DAEFR carries its own.

    Raises:
        TrainingError: `given` cannot teach this base.
    """
    if given is None:
        return base.network.good_codes if isinstance(base.network, DAEFR) else None
    network, names = given.network, (base.config.family, given.config.family)
    if given.config.family not in FAMILIES or given.config.num_books > 1 or base.config.num_books > 1:
        raise TrainingError(f"a {names[1]} cannot teach a {names[0]}: a teacher is the autoencoder it was built on.")
    if (given.codebook_id, given.config.resolution) != (base.codebook_id, base.config.resolution):
        raise TrainingError(
            f"the teacher's codebook is {given.codebook_id} at {given.config.resolution} px, the base's {base.codebook_id} "
            f"at {base.config.resolution} px. Give the autoencoder that this {names[0]} was built on."
        )
    return lambda images: network.codebooks[0].nearest(to_tokens(network.encode(images)[0]))
