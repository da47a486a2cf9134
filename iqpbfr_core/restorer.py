"""Encode, look up, decode: the public face of every restorer, whatever its family.

r = load_restorer("builtin")
f = r.encode(lq)                    # aligned faces (B, 3, R, R) in [0, 1]
c = r.lookup(f, quality=1.0)        # codes
y = r.decode(c, f, fidelity=0.5)    # restored faces in [0, 1]
"""

import functools
import hashlib
import math
import os
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from .config import RestorerConfig, Supports
from .errors import InputError
from .features import Codes, Features
from .image import check_images, check_mask, from_network, to_grey, to_network
from .layers.coarse import keep_coarse
from .models.family import Network
from .settings import Settings, settle

MAX_ALPHA = 10.0
# What a model of another task is for, and where.
_TASK_WORDS = {
    "restore": "restores faces: use Restore Aligned Face or Restore Photo",
    "colorize": "gives grey faces colour: use Colorize Face or Restore Photo",
    "inpaint": "fills what a mask marks: use Inpaint Face, or Restore Photo with a mask",
    "autoencode": "draws a face as it is: it is there to train with, and restores nothing",
}


class Restorer:
    """A network with its config; checks what comes in, converts ranges, and keeps the three steps apart."""

    def __init__(self, network: Network, compute_device: torch.device | None = None) -> None:
        """`compute_device`: where to run, for networks whose weights wait elsewhere and are cast as they are used."""
        self.network = network.eval().requires_grad_(False)
        self._compute_device = compute_device

    @property
    def config(self) -> RestorerConfig:
        return self.network.config

    @property
    def device(self) -> torch.device:
        return self._compute_device or self.network.weights_device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    @functools.cached_property
    def codebook_id(self) -> str:
        """Tells codebooks apart: codes mean the same to every model with the same id, and nothing to others.

        Made from the signs of the entries, which survive a conversion to half precision.
        """
        return sign_digest(book.embedding.weight for book in self.network.codebooks)

    @functools.cached_property
    def supports(self) -> Supports:
        """What this model was trained for, found from its weights."""
        return self.network.supports

    @property
    def has_quality(self) -> bool:
        """Whether the lookup can be told a quality."""
        return self.supports.quality is not None

    @property
    def has_fidelity(self) -> bool:
        """Whether decoding has a fidelity knob that was trained."""
        return self.supports.fidelity

    def settings(
        self, quality: float | None = 1.0, fidelity: float | None = None, adain: bool | None = None
    ) -> Settings:
        """The settings nearest to a wish that this model was trained for; None is the model's own default.

        For callers who pass on what a user set and show the notes. `decode` refuses what was not trained.
        """
        return settle(self.config, self.supports, quality, fidelity, adain)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Restorer":
        """Move and convert the weights in place; returns itself."""
        self.network.to(device=device, dtype=dtype)
        return self

    def encode(self, images: Tensor) -> Features:
        """Aligned faces (B, 3, R, R) in [0, 1], R = config.resolution -> Features. Raises InputError on anything else."""
        check_images(images)
        side = self.config.resolution
        if tuple(images.shape[2:]) != (side, side):
            raise InputError(
                f"this model works on aligned faces of {side}x{side} pixels, got {images.shape[3]}x{images.shape[2]}. "
                "Resize the aligned face first (iqpbfr_core.image.resize)."
            )
        z, skips = self.network.encode(to_network(images.to(device=self.device, dtype=self.dtype)))
        return Features(z, skips)

    def lookup(
        self,
        features: Features,
        quality: float | Tensor | None = 1.0,
        guidance: float = 1.0,
        alpha: float | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Codes:
        """Predict the codes.

        Args:
            features: from `encode`.
            quality: wanted quality in [0, 1], a number or (B,); 1 is the best the model was trained for, and what lies
                outside `supports.quality` is taken to its end. A model told the scores of several metrics takes
                (B, metrics) too. None asks for the null condition (only "adaln" models have one). Models without a
                score (CodeFormer, RestoreFormer) are not affected.
            guidance: l_null + guidance * (l_score - l_null); 1 is off. Needs an "adaln" model.
            alpha: weight of the HQ+ codes, 0 to MAX_ALPHA; None takes the model's own. No effect with one codebook.
            temperature: 0 takes the likeliest code; above 0, codes are sampled.
            seed: of the sampling; every image of a batch draws the same noise, so a batch equals its singles.
        """
        self._check_has_codes()
        _check_features(features)
        score = self._check_quality(quality, len(features.z))
        alpha = self.config.alpha if alpha is None else alpha
        check_range("alpha", alpha, 0, MAX_ALPHA)
        check_range("temperature", temperature, 0)
        check_range("guidance", guidance, 0)
        has_null = self.config.conditioning == "adaln"
        if guidance != 1 and (not has_null or score is None):
            raise InputError(
                f"guidance {guidance} needs a model with a null condition and a quality to be guided to; "
                f"this one is {self.config.family} with conditioning {self.config.conditioning!r}. Use guidance 1."
            )
        z = self.network.condition(features.z, score)
        logits = self.network.logits(z, score).float()
        if guidance != 1:
            null = self.network.logits(self.network.condition(features.z, None), None).float()
            logits = null + guidance * (logits - null)
        indices = choose_codes(logits, temperature, seed)
        if self.config.num_books == 1:
            logits, indices = logits[..., 0], indices[..., 0]
        return Codes(indices, logits, float(alpha), score, self.codebook_id)

    def decode(
        self, codes: Codes, features: Features, fidelity: float | Tensor = 0.0, adain: bool | None = None
    ) -> Tensor:
        """Codes to faces (B, 3, R, R) in [0, 1], float32.

        Args:
            codes: from `lookup`.
            features: the ones the codes were predicted from.
            fidelity: 0 = quality (codes alone) ... 1 = as close to the input as the model can; number or (B,).
                Models without fusion are not affected; where its modules were never trained, only 0 is taken.
            adain: match mean and spread of the codes to the input's features; None does as the model's authors do.
        """
        return from_network(self.decode_raw(codes, features, fidelity, adain))

    def decode_raw(
        self, codes: Codes, features: Features, fidelity: float | Tensor = 0.0, adain: bool | None = None
    ) -> Tensor:
        """`decode` in the network's own scale, [-1, 1] but not clamped, in the network's dtype."""
        return self.generate(self.quantise(codes, features), features, codes.quality, fidelity, adain)

    def quantise(self, codes: Codes, features: Features) -> Tensor:
        """Codes to quantised features z_q (B, C, t, t), in the dtype and on the device of the features."""
        self.check_codes(codes, features)
        indices = codes.indices if self.config.num_books == 2 else codes.indices[..., None]
        return self.network.quantise(indices.to(features.z.device), codes.alpha, like=features.z)

    def generate(
        self, z_q: Tensor, features: Features, quality: Tensor | None, fidelity: float | Tensor, adain: bool | None
    ) -> Tensor:
        """The generator on quantised features z_q (B, C, t, t); unclamped, in [-1, 1] where trained."""
        weight = self._check_fidelity(fidelity, features.z)
        adain = self.supports.adain if adain is None else adain
        z = self.network.condition(features.z, quality)
        with self.network.telling(quality):
            image = self.network.generate(z_q, z, features.skips, weight, adain)
        is_fused = isinstance(weight, Tensor) or weight > 0
        if not (self.config.keeps_coarse and is_fused):
            return image
        # Not in the network: fusion modules trained below this learn to undo it, which is nearer in pixels, not in identity.
        return keep_coarse(image, features.skips[self.config.resolution], weight * self.config.keeps_coarse)

    @torch.no_grad()
    def restore(
        self,
        images: Tensor,
        quality: float | Tensor | None = 1.0,
        fidelity: float | Tensor | None = None,
        guidance: float = 1.0,
        alpha: float | None = None,
        adain: bool | None = None,
    ) -> Tensor:
        """Encode, look up and decode in one call; arguments as there, and fidelity None is the model's own default.

        A model without codes restores in one go; guidance and alpha have no meaning there.
        """
        fidelity = self.supports.default_fidelity if fidelity is None else fidelity
        features = self.encode(images)
        if not self.supports.codes:
            score = self._check_quality(quality, len(images))
            return from_network(self.generate(features.z, features, score, fidelity, adain))
        return self.decode(self.lookup(features, quality, guidance, alpha), features, fidelity, adain)

    def prepare(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pictures (B, 3, H, W) as the model was trained to see them: for colorizing grey, for inpainting white where a
        mask (B or 1, 1, H, W) marks anything, else as they are. Raises InputError for a model that restores nothing."""
        self.check_task("restore", "colorize", "inpaint")
        if mask is not None and (
            mask.ndim != 4 or len(mask) not in (1, len(images)) or mask.shape[1:] != (1, *images.shape[2:])
        ):
            wanted = (len(images), 1, *images.shape[2:])
            raise InputError(f"the mask must have shape {wanted}, or one for all, got {tuple(mask.shape)}.")
        if mask is not None:
            check_mask(mask)
        if self.supports.task == "colorize":
            return to_grey(images)
        if self.supports.task != "inpaint":
            return images
        if mask is None:
            raise InputError("an inpainting model needs a mask, white where it is to fill.")
        return torch.where(mask.to(images.device) > 0, torch.ones_like(images), images)

    def colorize(self, images: Tensor) -> Tensor:
        """Colour for grey or toned aligned faces, as `restore`, by a model that was trained for it."""
        self.check_task("colorize")
        return self.restore(self.prepare(images))

    def inpaint(self, images: Tensor, mask: Tensor) -> Tensor:
        """Fill parts of aligned faces, as `restore`, by a model that was trained for it.

        Args:
            images: (B, 3, R, R) in [0, 1].
            mask: (B or 1, 1, R, R) in [0, 1], the share of the filled face; where it is 0 the face is as it was.
        """
        self.check_task("inpaint")
        filled = self.restore(self.prepare(images, mask))
        return torch.lerp(images.to(filled), filled, mask.to(filled))

    def check_task(self, *tasks: str) -> None:
        """Raise InputError unless the model was trained for one of these tasks."""
        if self.supports.task not in tasks:
            raise InputError(f"this model {_TASK_WORDS[self.supports.task]}.")

    def check_codes(self, codes: Codes, features: Features) -> None:
        """Raise InputError unless `codes` can be decoded by this model together with `features`."""
        self._check_has_codes()
        _check_features(features)
        check_range("the codes' alpha", codes.alpha, 0, MAX_ALPHA)
        if codes.codebook_id not in ("", self.codebook_id):
            raise InputError(
                f"these codes belong to codebook {codes.codebook_id}, this model's is {self.codebook_id}: look them up "
                "with this model."
            )
        if codes.indices.is_floating_point() or codes.indices.is_complex():
            raise InputError(f"codes are whole numbers, got {codes.indices.dtype}.")
        books = () if self.config.num_books == 1 else (2,)
        expected = (len(features.z), self.config.num_tokens, *books)
        if tuple(codes.indices.shape) != expected:
            raise InputError(
                f"these codes have shape {tuple(codes.indices.shape)}, this model and batch need {expected}: "
                "they come from another model or another batch."
            )
        smallest, largest = (int(bound) for bound in codes.indices.aminmax())
        if smallest < 0 or largest >= self.config.num_codes:
            raise InputError(
                f"code {smallest if smallest < 0 else largest} does not exist: this model has {self.config.num_codes} "
                "codes per codebook."
            )

    def _check_has_codes(self) -> None:
        if not self.supports.codes:
            raise InputError(
                f"{self.config.family} has no codes to look up, blend or optimise: it restores a face in one go. "
                "Use Restore Aligned Face or Restore Photo (in Python: restorer.restore), or a model with codes."
            )

    def _check_quality(self, quality: float | Tensor | None, batch: int) -> Tensor | None:
        if quality is None:
            if self.config.conditioning in ("add", "add_multi"):
                raise InputError("this model has no null condition: give it a quality in [0, 1].")
            return None
        wanted = torch.as_tensor(quality, dtype=torch.float32, device=self.device)
        if wanted.ndim == 0:
            wanted = wanted.expand(batch)
        allowed: list[tuple[int, ...]] = [(batch,)]
        if self.config.conditioning == "add_multi":
            allowed.append((batch, len(self.config.score_bins)))
        if tuple(wanted.shape) not in allowed:
            shapes = " or ".join(map(str, allowed))
            raise InputError(f"quality must be a number or have shape {shapes}, got {tuple(wanted.shape)}.")
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise InputError(f"quality must lie in [0, 1], got {_describe(wanted)}.")
        return self.network.score(wanted) if self.has_quality else wanted

    def _check_fidelity(self, fidelity: float | Tensor, like: Tensor) -> float | Tensor:
        if self.config.fusion and not self.has_fidelity and (torch.as_tensor(fidelity) > 0).any():
            raise InputError("the fidelity modules of this model were never trained; decode it with fidelity 0.")
        if isinstance(fidelity, Tensor) and fidelity.ndim > 0:
            if tuple(fidelity.shape) != (len(like),):
                raise InputError(
                    f"fidelity must be a number or have shape ({len(like)},), got {tuple(fidelity.shape)}."
                )
            if not ((fidelity >= 0) & (fidelity <= 1)).all():
                raise InputError(f"fidelity must lie in [0, 1], got {_describe(fidelity)}.")
            return fidelity.to(like)[:, None, None, None]
        check_range("fidelity", float(fidelity), 0, 1)
        return float(fidelity)


def _check_features(features: Features) -> None:
    if not all(math.isfinite(bound.item()) for bound in features.z.detach().aminmax()):
        raise InputError(
            "these features hold NaN or infinity: in half precision some models overflow. Load the model in float32 or "
            "bfloat16."
        )


def sign_digest(weights: Iterable[Tensor]) -> str:
    """16 characters that tell weights apart by their signs."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(torch.signbit(weight.detach()).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _describe(values: Tensor) -> str:
    return str([round(v, 4) for v in values.flatten().tolist()])


def check_range(name: str, value: float, low: float, high: float | None = None) -> None:
    """Raise InputError unless `value` is finite and lies in [low, high]; `high` None = no upper bound."""
    if not (value >= low and (high is None or value <= high) and value < float("inf")):
        wanted = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise InputError(f"{name} must be {wanted}, got {value}.")


def choose_codes(logits: Tensor, temperature: float, seed: int) -> Tensor:
    """Logits (B, N, K[, books]) to indices (B, N[, books]): the maximum, or a sample by the Gumbel trick.

    Every image of a batch draws the same noise.
    """
    if temperature > 0:
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(logits.shape[1:], generator=generator).clamp(1e-12, 1 - 1e-7)
        logits = logits - temperature * (-uniform.log()).log().to(logits.device)
    return logits.argmax(2)


def load_restorer(
    source: str | os.PathLike[str] = "builtin",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | Literal["auto"] = torch.float32,
) -> Restorer:
    """Load a restorer from a file, or the built-in one.

    Args:
        source: "builtin", or the path of a `.safetensors`, `.pth`, `.ckpt` or `.onnx` file of a supported family.
        device, dtype: where and how the weights are kept; float16 and bfloat16 work on every device. "auto" takes what
            `precision.automatic_dtype` says: results then depend a little on the processor.

    Raises:
        CheckpointError: the file cannot be read, belongs to no supported family or does not fit it.
    """
    from .checkpoint import load_network
    from .precision import automatic_dtype

    return Restorer(load_network(source)).to(device, automatic_dtype(source, device) if dtype == "auto" else dtype)
