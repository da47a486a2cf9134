"""Two of Impact Pack's nodes by name, sockets and widgets, for a ComfyUI that has not the pack: same wires, no diffusion.

A server of the tests loads this file from its custom_nodes. What it needs of SEGS, the pack's own nodes need, too.
"""

from typing import Any

import comfy.samplers
import torch

FACTOR = ("FLOAT", {"default": 512, "min": 64, "max": 16384, "step": 8})


class OrderedFilter:
    RETURN_TYPES = ("SEGS", "SEGS")
    RETURN_NAMES = ("filtered_SEGS", "remained_SEGS")
    FUNCTION = "run"
    CATEGORY = "ImpactPack/Util"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "segs": ("SEGS",),
                "target": (["area(=w*h)", "width", "height", "x1", "y1", "x2", "y2", "confidence"],),
                "order": ("BOOLEAN", {"default": True, "label_on": "descending", "label_off": "ascending"}),
                "take_start": ("INT", {"default": 0, "min": 0, "max": 2**31}),
                "take_count": ("INT", {"default": 1, "min": 0, "max": 2**31}),
            }
        }

    def run(self, segs, target, order, take_start, take_count):
        def area(seg):
            left, top, right, bottom = seg.crop_region
            return (right - left) * (bottom - top)

        size, items = segs
        items = sorted(items, key=area, reverse=order)
        taken = items[take_start : take_start + take_count]
        return (size, taken), (size, [seg for seg in items if not any(seg is other for other in taken)])


class Detailer:
    """Paints grey where Impact Pack's would paint anew."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "ImpactPack/Detailer"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE",),
                "segs": ("SEGS",),
                "model": ("MODEL",),
                "clip": ("CLIP",),
                "vae": ("VAE",),
                "guide_size": FACTOR,
                "guide_size_for": ("BOOLEAN", {"default": True, "label_on": "bbox", "label_off": "crop_region"}),
                "max_size": FACTOR,
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1}),
                "steps": ("INT", {"default": 20, "min": 1, "max": 10000}),
                "cfg": ("FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0}),
                "sampler_name": (comfy.samplers.KSampler.SAMPLERS,),
                "scheduler": (comfy.samplers.KSampler.SCHEDULERS,),
                "positive": ("CONDITIONING",),
                "negative": ("CONDITIONING",),
                "denoise": ("FLOAT", {"default": 0.5, "min": 0.0001, "max": 1.0, "step": 0.01}),
                "feather": ("INT", {"default": 5, "min": 0, "max": 100}),
                "noise_mask": ("BOOLEAN", {"default": True}),
                "force_inpaint": ("BOOLEAN", {"default": True}),
                "wildcard": ("STRING", {"multiline": True, "dynamicPrompts": False}),
                "cycle": ("INT", {"default": 1, "min": 1, "max": 10}),
            },
            "optional": {
                "detailer_hook": ("DETAILER_HOOK",),
                "inpaint_model": ("BOOLEAN", {"default": False}),
                "noise_mask_feather": ("INT", {"default": 20, "min": 0, "max": 100}),
                "scheduler_func_opt": ("SCHEDULER_FUNC",),
            },
        }

    def run(self, image, segs, **_):
        (height, width), items = segs
        assert image.shape[:3] == (1, height, width)
        painted = image.clone()
        for seg in items:
            left, top, right, bottom = seg.crop_region
            mask = torch.as_tensor(seg.cropped_mask)[None, ..., None]
            part = painted[:, top:bottom, left:right]
            assert seg.cropped_image.shape == part.shape
            assert (seg.label, seg.control_net_wrapper) == ("face", None)
            assert seg.confidence > 0
            painted[:, top:bottom, left:right] = part * (1 - mask) + 0.5 * mask
        return (painted,)


NODE_CLASS_MAPPINGS = {"ImpactSEGSOrderedFilter": OrderedFilter, "DetailerForEach": Detailer}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ImpactSEGSOrderedFilter": "SEGS Filter (ordered)",
    "DetailerForEach": "Detailer (SEGS)",
}
