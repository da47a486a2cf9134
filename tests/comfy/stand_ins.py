"""Stand-ins for the models that some workflows need and that are not at hand: loaded and run like the real ones."""

import subprocess
from pathlib import Path

import torch
from networks import FAMILIES, TASKS, make_network
from server import find_python

from iqpbfr_core.adapters import new_adapter
from iqpbfr_core.restorer import Restorer

# What a prompt with the checkpoint runs at: one step at a small size, since a processor would paint for minutes.
IN_A_HURRY = {"steps": 1, "width": 64, "height": 64, "crop_size": 64}

# Restorers that workflows name, and what stands in for them: the same kinds of network, with narrow layers and random weights.
RESTORERS = {
    "codeformer.pth": FAMILIES["codeformer"],
    "codeformer_colorization.pth": TASKS["colorize"],
    "codeformer_inpainting.pth": TASKS["inpaint"],
    "GFPGANv1.4.pth": FAMILIES["gfpgan"],
}


def write_upscaler(base: Path) -> Path:
    """A stand-in for the upscale model: a tiny SRVGGNetCompact whose weights are zero, which leaves plain enlarging."""
    file = base / "models" / "upscale_models" / "RealESRGAN_x4plus.pth"
    weights = {
        "body.0.weight": torch.zeros(4, 3, 3, 3), "body.0.bias": torch.zeros(4), "body.1.weight": torch.zeros(4),
        "body.2.weight": torch.zeros(4, 4, 3, 3), "body.2.bias": torch.zeros(4), "body.3.weight": torch.zeros(4),
        "body.4.weight": torch.zeros(48, 4, 3, 3), "body.4.bias": torch.zeros(48),
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(weights, file)
    return file


def write_restorers(base: Path) -> list[Path]:
    """Stand-ins for published restorers."""
    folder = base / "models" / "facerestore_models"
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in RESTORERS.items():
        torch.save({"params_ema": make_network(config).state_dict()}, folder / name)
    return [*(folder / name for name in RESTORERS), write_adapter(base)]


def write_adapter(base: Path) -> Path:
    """A stand-in for a trained score adapter of the stand-in for CodeFormer: what it changes is random, but is seen."""
    adapter = new_adapter(Restorer(make_network(RESTORERS["codeformer.pth"])))
    torch.manual_seed(0)
    torch.nn.init.normal_(adapter.network.values.weight, std=0.3)
    file = base / "models" / "iqpbfr_adapters" / "codeformer_quality.safetensors"
    adapter.save(file)
    return file


def write_checkpoint(file: Path, comfyui: Path) -> None:
    """A stand-in for the checkpoint, of zeros: it paints grey, but is loaded and run like any other."""
    script = Path(__file__).parent / "empty_checkpoint.py"
    subprocess.run([find_python(comfyui), str(script), str(comfyui), str(file)], check=True, timeout=120)


def link_checkpoint(base: Path, file: Path) -> Path:
    """Put a checkpoint, under the name that workflows load, into the models of a server."""
    link = base / "models" / "checkpoints" / "v1-5-pruned-emaonly-fp16.safetensors"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(file)
    return link
