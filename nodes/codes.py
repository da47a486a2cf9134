"""Blend, preview, save and load codes."""

import hashlib
import os

import comfy.model_management as management
import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ..iqpbfr_core.codes import (
    BOOKS,
    REGIONS,
    blend_codes,
    confidence,
    load_codes,
    mask_tokens,
    region_tokens,
    save_codes,
    token_side,
)
from ..iqpbfr_core.errors import InputError
from ..iqpbfr_core.figure import colour_map, labelled_grid
from .layout import to_comfy
from .schema import CATEGORY, advanced, search_aliases
from .shown import on_node
from .sockets import CODES, RESTORER, FaceCodes, LoadedRestorer

SUFFIX = ".codes.safetensors"


class BlendCodes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_BlendCodes",
            display_name="Blend Codes (IQP)",
            category=f"{CATEGORY}/codes",
            description="Take codes from a second map inside a region or mask, for instance high-quality codes only around the eyes.",
            **search_aliases("mix codes", "regional restore"),
            inputs=[
                CODES.Input("base_codes", tooltip="Kept outside the region."),
                CODES.Input("other_codes", tooltip="Taken inside the region."),
                io.Combo.Input(
                    "region",
                    options=list(REGIONS),
                    default="everything",
                    tooltip="Part of the aligned face; a mask narrows it further.",
                ),
                advanced(
                    io.Combo.Input(
                        "codebook",
                        options=list(BOOKS),
                        default="both",
                        tooltip="Which codes to take: both codebooks, only HQ+, or only the common one.",
                    )
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Optional, of any size: codes are taken where it covers at least half a token.",
                ),
            ],
            outputs=[CODES.Output("codes", display_name="codes", tooltip="For Decode Face.")],
        )

    @classmethod
    def execute(
        cls, base_codes: FaceCodes, other_codes: FaceCodes, region: str, codebook: str, mask: Tensor | None = None
    ) -> io.NodeOutput:
        base_codes.check_same_model(other_codes.model)
        side = token_side(base_codes.codes)
        tokens = region_tokens(region, side)
        if mask is not None:
            masked = mask_tokens(mask, side)
            tokens = tokens.to(masked.device) & masked
        blended = blend_codes(base_codes.codes, other_codes.codes, tokens, codebook)
        return io.NodeOutput(FaceCodes(base_codes.model, blended))


class PreviewCodes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_PreviewCodes",
            display_name="Preview Codes (IQP)",
            category=f"{CATEGORY}/codes",
            description="See the code map: how sure the lookup was, where high-quality codes are used, and what changed.",
            **search_aliases("code map", "confidence"),
            is_output_node=True,
            inputs=[
                CODES.Input("codes", tooltip="The codes to look at."),
                CODES.Input(
                    "compare_with",
                    optional=True,
                    tooltip="Optional: another code map of the same faces; changed tokens are shown.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "picture",
                    display_name="picture",
                    tooltip="A row per face. Yellow = sure, in use, changed; dark = not.",
                ),
                io.Float.Output(
                    "changed_share",
                    display_name="changed share",
                    tooltip="Share of tokens that differ from compare_with, 0 without it.",
                ),
            ],
        )

    @classmethod
    def execute(cls, codes: FaceCodes, compare_with: FaceCodes | None = None) -> io.NodeOutput:
        shown = codes.codes
        titles, maps = _confidence_maps(codes)
        share = 0.0
        if compare_with is not None:
            codes.check_same_model(compare_with.model)
            other = compare_with.codes.indices.to(shown.indices.device)
            if other.shape != shown.indices.shape:
                raise InputError(
                    f"{len(shown)} and {len(other)} faces cannot be compared; give the same number of faces."
                )
            changed = (other != shown.indices).flatten(2).any(2) if other.ndim == 3 else other != shown.indices
            share = changed.float().mean().item()
            titles, maps = [*titles, f"changed {share:.0%}"], [*maps, changed.float()]
        side = token_side(shown)
        panels = [_enlarge(colour_map(m.reshape(-1, side, side).cpu())) for m in maps]
        rows = [torch.stack([panel[face] for panel in panels]) for face in range(len(shown))]
        picture = labelled_grid(rows, [f"face {number}" for number in range(len(shown))], titles)[None]
        return io.NodeOutput(to_comfy(picture), share, ui=on_node(cls, picture))


def _confidence_maps(codes: FaceCodes) -> tuple[list[str], list[Tensor]]:
    sure = confidence(codes.codes)
    if codes.codes.indices.ndim == 2:
        return ["confidence"], [sure[..., 0]]
    # HQ+ codes near zero add nothing: show by how much each one moves the face.
    book = codes.model.restorer.network.codebooks[0].embedding.weight.detach().float().cpu().norm(dim=1)
    use = book[codes.codes.indices[..., 0].cpu()] / book.max().clamp_min(1e-8)
    return ["confidence common", "confidence HQ+", "use of HQ+"], [sure[..., 1], sure[..., 0], use]


def _enlarge(pictures: Tensor, side: int = 192) -> Tensor:
    return torch.nn.functional.interpolate(pictures, size=(side, side), mode="nearest")


class SaveCodes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_SaveCodes",
            display_name="Save Codes (IQP)",
            category=f"{CATEGORY}/codes",
            description="Keep code maps in a small file in the output folder, 1 KB per face and codebook.",
            **search_aliases("export codes"),
            is_output_node=True,
            inputs=[
                CODES.Input("codes", tooltip="The codes to keep."),
                io.String.Input(
                    "filename_prefix",
                    default="codes/face",
                    tooltip="Folder and beginning of the name, below the output folder.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, codes: FaceCodes, filename_prefix: str) -> io.NodeOutput:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        while os.path.exists(path := os.path.join(folder, f"{name}_{counter:05}_{SUFFIX}")):
            counter += 1
        save_codes(codes.codes, codes.model.restorer, path)
        return io.NodeOutput(
            ui={"codes": [{"filename": os.path.basename(path), "subfolder": subfolder, "type": "output"}]}
        )


def code_files() -> list[str]:
    """Files of codes in the input folder and, marked so, in the output folder."""
    found = []
    for folder, mark in ((folder_paths.get_input_directory(), ""), (folder_paths.get_output_directory(), " [output]")):
        names, _ = folder_paths.recursive_search(folder)
        found += [name + mark for name in sorted(names) if name.endswith(SUFFIX)]
    return found


class LoadCodes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_LoadCodes",
            display_name="Load Codes (IQP)",
            category=f"{CATEGORY}/codes",
            description="Read code maps that Save Codes wrote.",
            **search_aliases("import codes"),
            inputs=[
                RESTORER.Input("restorer", tooltip="The model the codes were made with."),
                io.Combo.Input(
                    "file", options=code_files(), tooltip=f"Files ending in {SUFFIX} in the input and output folders."
                ),
            ],
            outputs=[
                CODES.Output(
                    "codes",
                    display_name="codes",
                    tooltip="For Decode Face, together with the features of the same faces.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        return (
            True
            if folder_paths.exists_annotated_filepath(file)
            else f"There is no file of codes {file!r}. Save codes first, or refresh the list."
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_) -> str:
        with open(folder_paths.get_annotated_filepath(file), "rb") as opened:
            return hashlib.sha256(opened.read()).hexdigest()

    @classmethod
    def execute(cls, restorer: LoadedRestorer, file: str) -> io.NodeOutput:
        codes = load_codes(folder_paths.get_annotated_filepath(file), restorer.restorer)
        return io.NodeOutput(FaceCodes(restorer, codes.to(management.intermediate_device())))
