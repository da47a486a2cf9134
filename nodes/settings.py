"""Face Settings: what Restore Photo does to some of the faces."""

from comfy_api.latest import io

from ..iqpbfr_core.faces.face import Faces
from ..iqpbfr_core.faces.settings import FaceSettings as Settings
from ..iqpbfr_core.restorer import check_range
from .decode import fidelity_input
from .lookup import quality_input
from .paste import visibility_input
from .schema import CATEGORY, search_aliases
from .sockets import FACE_SETTINGS, FACES


class FaceSettings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_FaceSettings",
            display_name="Face Settings (IQP)",
            category=f"{CATEGORY}/faces",
            description="Restore some faces of a photo by settings of their own: one strongly, one not at all.",
            **search_aliases("per face", "one face", "strength", "leave a face alone"),
            inputs=[
                FACES.Input("faces", tooltip="Whom these settings are for: from Select Faces, or all of Detect Faces."),
                quality_input(),
                fidelity_input(),
                visibility_input(),
                FACE_SETTINGS.Input(
                    "earlier",
                    optional=True,
                    tooltip="Optional: Face Settings of other faces, kept; for a face in both, these here hold.",
                ),
            ],
            outputs=[FACE_SETTINGS.Output("settings", display_name="settings", tooltip="For Restore Photo.")],
        )

    @classmethod
    def execute(
        cls,
        faces: Faces,
        quality: float,
        fidelity: float,
        visibility: float,
        earlier: tuple[Settings, ...] = (),
    ) -> io.NodeOutput:
        for name, value in (("quality", quality), ("fidelity", fidelity), ("visibility", visibility)):
            check_range(name, value, 0, 1)
        return io.NodeOutput((*earlier, Settings(faces, quality, fidelity, visibility)))
