"""Run under ComfyUI's Python: write a shallow Stable Diffusion 1.5 checkpoint whose weights are all zero (a sparse file).

It paints grey, but ComfyUI loads and runs it like any other.
"""

import json
import sys
from pathlib import Path

comfyui, target = sys.argv[1:3]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, comfyui)

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.ops  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencoderKL  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402
from comfy.sd1_clip import SD1ClipModel  # noqa: E402

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1, 1],  # of 2, 2, 2, 2: ComfyUI reads the depth from the file, and a test need not wait
    "channel_mult": [1, 1],
    "transformer_depth": [1, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 0, 0],
    "num_heads": 8,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "legacy": False,
    "operations": comfy.ops.manual_cast,
}
VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}

parts = {
    "model.diffusion_model.": UNetModel(**UNET, device="meta").state_dict(),
    "first_stage_model.": AutoencoderKL(ddconfig=VAE, embed_dim=4).state_dict(),
    "cond_stage_model.": SD1ClipModel(device="meta").clip_l.state_dict(),
}
header, end = {}, 0
for prefix, weights in parts.items():
    for name, weight in weights.items():
        size = 2 * weight.numel()
        header[prefix + name] = {"dtype": "F16", "shape": list(weight.shape), "data_offsets": [end, end + size]}
        end += size
text = json.dumps(header).encode()
with open(Path(target), "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    file.truncate(8 + len(text) + end)
