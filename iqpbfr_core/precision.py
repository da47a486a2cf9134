"""What precision `auto` means: the faster one, where it was measured that the picture stays the same."""

import os

import torch

from .checkpoint import BUILTIN

# Instructions that multiply bfloat16, as torch names them. Without them bfloat16 is slower than float32.
_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def automatic_dtype(source: str | os.PathLike[str], device: torch.device | str) -> torch.dtype:
    """bfloat16 for the built-in model on a CPU that multiplies it (AVX512-BF16, AMX), else float32.

    There it takes half the time, and pictures differ by less than 2/255 on the mean. In other models a code that is
    chosen differently can change more than that; docs/performance.md has the figures.
    """
    is_for_sure = source == BUILTIN and torch.device(device).type == "cpu"
    return torch.bfloat16 if is_for_sure and _multiplies_bfloat16() else torch.float32


def _multiplies_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):
        return False  # an older torch does not tell
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _FAST_BFLOAT16)
