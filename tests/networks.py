"""Small networks with seeded weights, one of every family."""

import dataclasses

import pytest
import torch

from iqpbfr_core.checkpoint import build_network
from iqpbfr_core.training.presets import TINY

# Of ours, with one codebook and without a score.
PLAIN = dataclasses.replace(TINY, num_hq_codes=0, conditioning="none", tells_features=False)
_VQGAN = dataclasses.replace(
    TINY, stem=1, head=1, widths=(16, 32, 64), encoder_depths=(2, 1, 1), generator_depths=(1, 2, 1), num_hq_codes=0,
    conditioning="none", lookup_dim=512, lookup_mlp_dim=1024, lookup_layers=0, fusion=(), alpha=0.8, metric="",
    local_levels=0, tells_features=False,
)  # fmt: skip
# Smaller than what is published in every number, but 16 x 16 tokens where a file does not tell how many there are.
FAMILIES = {
    "codeformer": dataclasses.replace(
        _VQGAN, family="codeformer", lookup_dim=64, lookup_mlp_dim=128, lookup_layers=2, fusion=(32, 64)
    ),
    "restoreformer": dataclasses.replace(_VQGAN, family="restoreformer", attention_heads=8),
    "restoreformer_plus_plus": dataclasses.replace(_VQGAN, family="restoreformer_plus_plus", attention_heads=4),
    "daefr": dataclasses.replace(_VQGAN, family="daefr", lookup_dim=64, lookup_mlp_dim=128, lookup_layers=2),
    "vqfr_v1": dataclasses.replace(_VQGAN, family="vqfr_v1"),
    "vqfr_v2": dataclasses.replace(_VQGAN, family="vqfr_v2"),
    "gfpgan": dataclasses.replace(
        _VQGAN, family="gfpgan", widths=(16, 32, 64, 64, 64), encoder_depths=(), generator_depths=(), num_codes=0
    ),
    "stage_one": dataclasses.replace(_VQGAN, family="stage_one"),
}

# CodeFormer's special models are known by where they fuse, and by how many codes there are.
TASKS = {
    task: dataclasses.replace(
        FAMILIES["codeformer"], resolution=512, widths=(8, 8, 8, 8, 8, 16), encoder_depths=(1,) * 6,
        generator_depths=(1,) * 6, num_codes=num_codes, fusion=(32, 64, 128),
    )
    for task, num_codes in (("colorize", 1024), ("inpaint", 512))
}  # fmt: skip


def make_network(config=TINY):
    """A network whose every parameter is random: untrained layers that start at zero would hide mistakes."""
    torch.manual_seed(0)
    network = build_network(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" not in name and parameter.abs().max() == 0:
                parameter.normal_(0, 0.05)
            if "quantize" in name:
                parameter.normal_(0, 0.5)
            if "encode_enc.norm1.weight" in name and config.resolution == 512:
                parameter.fill_(0.9)  # trained, for those that are known by it
        for buffer in network.buffers():
            buffer.normal_()
    return network


def write_upscaler(path, channels=3):
    """A file of a Compact network that doubles pictures, with random weights."""
    arch = pytest.importorskip("spandrel.architectures.Compact.__arch.SRVGG")
    torch.manual_seed(0)
    network = arch.SRVGGNetCompact(num_in_ch=channels, num_out_ch=channels, num_feat=4, num_conv=2, upscale=2)
    torch.save({"params": network.state_dict()}, path)
    return path
