"""Models that others have published and that work here: what `iqpbfr download` fetches, and the table of the README."""

from dataclasses import dataclass

from .download import WeightFile
from .errors import InputError
from .faces.weights import PARSENET, RETINAFACE_MOBILE, RETINAFACE_RESNET50

RESTORERS = "facerestore_models"  # folders below ComfyUI's models/
FACES = "facedetection"
_CODEFORMER = "https://github.com/sczhou/CodeFormer/releases/download/v0.1.0"
_GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download"
_RESTOREFORMER = "https://github.com/wzhouxiff/RestoreFormerPlusPlus/releases/download/v1.0.0"
_S_LAB = "S-Lab 1.0, non-commercial"


@dataclass(frozen=True)
class Model:
    """A published model: what to call it, its file, the folder below `models/` that it belongs in, and its licence."""

    name: str
    file: WeightFile
    folder: str
    licence: str


MODELS = (
    Model(
        "codeformer",
        WeightFile(
            "codeformer.pth",
            f"{_CODEFORMER}/codeformer.pth",
            376_637_898,
            "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        ),
        RESTORERS,
        _S_LAB,
    ),
    Model(
        "codeformer_colorization",
        WeightFile(
            "codeformer_colorization.pth",
            f"{_CODEFORMER}/codeformer_colorization.pth",
            372_359_475,
            "4f041f194fe17cc128d7c76526fe45689079ce5f5811e1441ccfd3d5aec4693d",
        ),
        RESTORERS,
        _S_LAB,
    ),
    Model(
        "codeformer_inpainting",
        WeightFile(
            "codeformer_inpainting.pth",
            f"{_CODEFORMER}/codeformer_inpainting.pth",
            370_786_611,
            "b0d1b868c3dacf75d637bbcc0d4b3dd4ce2a064a338dfb4d35c740d3b4ae8797",
        ),
        RESTORERS,
        _S_LAB,
    ),
    Model(
        "gfpgan",
        WeightFile(
            "GFPGANv1.4.pth",
            f"{_GFPGAN}/v1.3.0/GFPGANv1.4.pth",
            348_632_874,
            "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
        ),
        RESTORERS,
        "Apache-2.0, parts non-commercial",
    ),
    Model(
        "restoreformer",
        WeightFile("RestoreFormer.pth", f"{_GFPGAN}/v1.3.4/RestoreFormer.pth"),
        RESTORERS,
        "Apache-2.0",
    ),
    Model(
        "restoreformer++",
        WeightFile("RestoreFormer++.ckpt", f"{_RESTOREFORMER}/RestoreFormer++.ckpt"),
        RESTORERS,
        "Apache-2.0",
    ),
    Model("retinaface_resnet50", RETINAFACE_RESNET50, FACES, "MIT"),
    Model("retinaface_mobile0.25", RETINAFACE_MOBILE, FACES, "MIT"),
    Model("parsenet", PARSENET, FACES, "MIT"),
)


def find_model(name: str) -> Model:
    """By its name, or by its file's. Raises InputError with what there is."""
    for model in MODELS:
        if name.lower() in (model.name, model.file.name.lower()):
            return model
    raise InputError(f"unknown model {name!r}; there are {', '.join(model.name for model in MODELS)}.")
