"""Settings a user asks for, and what a model was trained for."""

from dataclasses import dataclass

from .config import RestorerConfig, Supports


@dataclass(frozen=True)
class Settings:
    """Settings a model was trained for, and a line in `notes` for each wish that had to give way."""

    quality: float | None
    fidelity: float
    adain: bool
    notes: tuple[str, ...]


def settle(
    config: RestorerConfig, supports: Supports, quality: float | None, fidelity: float | None, adain: bool | None
) -> Settings:
    """The settings nearest to a wish that a model supports; None is the model's own default."""
    notes = []
    if quality is not None and supports.quality is None and quality != 1:
        notes.append(f"{config.family} takes no quality score, so quality has no effect without a score adapter.")
    elif quality is not None and supports.quality is not None:
        low, high = supports.quality
        if not low <= quality <= high:
            nearest = min(max(quality, low), high)
            notes.append(
                f"Quality {quality:g} is score {nearest:g} here: this model was trained for {low:g} to {high:g}."
            )
    if fidelity and not supports.fidelity:
        why = "its fidelity modules were never trained" if config.fusion else "it has no such knob"
        notes.append(f"Fidelity {fidelity:g} has no effect on this {config.family} model: {why}.")
        fidelity = 0.0
    if supports.task in ("colorize", "inpaint"):
        if fidelity not in (None, supports.default_fidelity) or adain not in (None, supports.adain):
            notes.append(
                f"This model was trained to {supports.task} at fidelity {supports.default_fidelity:g} "
                f"{'with' if supports.adain else 'without'} AdaIN, which is what is done."
            )
        fidelity, adain = supports.default_fidelity, supports.adain
    return Settings(
        quality,
        supports.default_fidelity if fidelity is None else fidelity,
        supports.adain if adain is None else adain,
        tuple(notes),
    )
