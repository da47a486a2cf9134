"""Nodes of facerestore_cf, for which ours can stand in where that pack is missing.

Outputs keep their places, so that none is mapped: ComfyUI fails (0.18.1) where a mapped output leads into another replaced node.

Nodes of other packs load their model themselves, so that no single node of ours is their equal: see docs/migration.md.
"""

from comfy_api.latest import ComfyAPI, io

REPLACEMENTS = (
    {
        "old_node_id": "FaceRestoreModelLoader",
        "new_node_id": "IQPBFR_LoadRestorer",
        "old_widget_ids": ["model_name"],
        "input_mapping": [
            {"new_id": "model_name", "old_id": "model_name"},
            {"new_id": "precision", "set_value": "auto"},
        ],
    },
    {
        "old_node_id": "FaceRestoreCFWithModel",
        "new_node_id": "IQPBFR_RestorePhoto",
        "old_widget_ids": ["facedetection", "codeformer_fidelity"],
        "input_mapping": [
            {"new_id": "restorer", "old_id": "facerestore_model"},
            {"new_id": "image", "old_id": "image"},
            {"new_id": "quality", "set_value": 1.0},
            {"new_id": "fidelity", "old_id": "codeformer_fidelity"},
            {"new_id": "adain", "set_value": True},
            {"new_id": "min_size", "set_value": 24},
            {"new_id": "feather", "set_value": 0.25},
            {"new_id": "visibility", "set_value": 1.0},
            {"new_id": "keep_colour", "set_value": False},
            {"new_id": "video_smoothing", "set_value": 0.0},
        ],
    },
)


async def register_replacements() -> None:
    """Tell ComfyUI, if it can replace missing nodes; 0.3.64 cannot."""
    if hasattr(io, "NodeReplace"):
        for replacement in REPLACEMENTS:
            await ComfyAPI().node_replacement.register(io.NodeReplace(**replacement))
