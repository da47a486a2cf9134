"""The graph blocks. The only floor that knows ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .adapt import ApplyScoreAdapter, LoadScoreAdapter
from .codes import BlendCodes, LoadCodes, PreviewCodes, SaveCodes
from .decode import DecodeFace
from .detect import DetectFaces, LoadDetector, SelectFaces
from .encode import EncodeFace
from .folders import add_model_folders
from .load import LoadMetric, LoadRestorer
from .lookup import LookUpCodes
from .optimize import OptimizeCodes, RestoreToTarget
from .paste import CropFaces, LoadParser, PasteFaces
from .photo import RestorePhoto
from .picture import ExamplePicture
from .replacements import register_replacements
from .restore import RestoreAlignedFace
from .schema import naming_errors
from .score import FilterByScore, QualityGate, ScoreImage
from .segs import FacesToSegs, SegsToFaces
from .settings import FaceSettings
from .sweep import QualitySweep
from .tasks import ColorizeFace, InpaintFace

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadRestorer,
    LoadMetric,
    LoadScoreAdapter,
    ApplyScoreAdapter,
    EncodeFace,
    LookUpCodes,
    DecodeFace,
    ScoreImage,
    FilterByScore,
    QualityGate,
    RestoreAlignedFace,
    ColorizeFace,
    InpaintFace,
    QualitySweep,
    BlendCodes,
    PreviewCodes,
    SaveCodes,
    LoadCodes,
    OptimizeCodes,
    RestoreToTarget,
    RestorePhoto,
    LoadDetector,
    LoadParser,
    DetectFaces,
    SelectFaces,
    FaceSettings,
    CropFaces,
    PasteFaces,
    FacesToSegs,
    SegsToFaces,
    ExamplePicture,
)


class IQPFaceRestoration(ComfyExtension):
    """The extension as ComfyUI sees it."""

    async def on_load(self) -> None:
        await register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        add_model_folders()  # here and not in on_load, which ComfyUI 0.3.64 does not call
        return [naming_errors(node) for node in NODES]
