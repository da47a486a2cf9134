"""CodeFormer's own code out of a checkout of github.com/sczhou/CodeFormer, to be run beside ours in one process.

Nothing of it is copied here and no weights are needed: its network takes ours, and its face helper our detector's.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iqpbfr_core.faces.detection import Detector

ARGUMENTS = {  # as in its inference_codeformer.py
    "dim_embd": 512,
    "codebook_size": 1024,
    "n_head": 8,
    "n_layers": 9,
    "connect_list": ["32", "64", "128", "256"],
}
DETECTION_SIDE = 640  # its shorter side of a photo that faces are looked for in


class Checkout:
    """The modules of a checkout, imported from there.

    Its `basicsr` and `basicsr.archs` import the whole of their training code, which wants more packages and a file that
    only its installation writes. So these two are empty packages here, and what is used is imported by its full name.
    """

    def __init__(self, folder: Path) -> None:
        """Raises SystemExit if `folder` is no such checkout."""
        wanted = folder / "basicsr" / "archs" / "codeformer_arch.py"
        if not wanted.is_file():
            raise SystemExit(f"{folder} is no checkout of github.com/sczhou/CodeFormer: there is no {wanted}.")
        sys.path.insert(0, str(folder))
        for name in ("basicsr", "basicsr.archs"):
            package = ModuleType(name)
            package.__path__ = [str(folder.joinpath(*name.split(".")))]
            sys.modules[name] = package
        self.arch = importlib.import_module("basicsr.archs.codeformer_arch")
        self.images = importlib.import_module("basicsr.utils.img_util")

    def network(self, weights: Mapping[str, Tensor], device: torch.device) -> torch.nn.Module:
        """Its CodeFormer, with these weights."""
        network = self.arch.CodeFormer(**ARGUMENTS)
        network.load_state_dict(weights)
        return network.eval().to(device)

    @torch.no_grad()
    def restore(self, network: torch.nn.Module, faces: list[np.ndarray], fidelity: float) -> list[np.ndarray]:
        """The loop of its inference_codeformer.py over aligned faces (512, 512, 3) uint8, BGR."""
        device, restored = next(network.parameters()).device, []
        for face in faces:
            tensor = self.images.img2tensor(face / 255.0, bgr2rgb=True, float32=True)
            tensor = ((tensor - 0.5) / 0.5).unsqueeze(0).to(device)
            output = network(tensor, w=fidelity, adain=True)[0]
            restored.append(self.images.tensor2img(output, rgb2bgr=True, min_max=(-1, 1)).astype("uint8"))
        return restored

    def helper(self, detector: Detector) -> Any:
        """Its FaceRestoreHelper, with a RetinaFace (mobile0.25) of ours in its own network, and without a parser."""
        retinaface = importlib.import_module("facelib.detection.retinaface.retinaface")
        network = retinaface.RetinaFace(network_name="mobile0.25")
        counts = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
        network.load_state_dict({**counts, **detector.network.state_dict()})  # ours counts no batches
        network.cfg["min_sizes"] = [list(sides) for sides in detector.config.anchors]
        for module in network.modules():
            if isinstance(module, torch.nn.LeakyReLU):
                module.negative_slope = detector.config.slope
        module = importlib.import_module("facelib.utils.face_restoration_helper")
        module.init_detection_model = lambda *_, **__: network
        module.init_parsing_model = lambda *_, **__: None  # it would be downloaded
        return module.FaceRestoreHelper(1, face_size=512, crop_ratio=(1, 1), use_parse=False, device=detector.device)

    @staticmethod
    def restore_photo(
        helper: Any, photo: np.ndarray, restore: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, int]:
        """A photo (H, W, 3) uint8, BGR, with every face given to `restore`, and how many faces there were."""
        helper.clean_all()
        helper.read_image(photo)
        count = helper.get_face_landmarks_5(resize=DETECTION_SIDE, eye_dist_threshold=5)
        helper.align_warp_face()
        for face in helper.cropped_faces:
            helper.add_restored_face(restore(face), face)
        helper.get_inverse_affine(None)
        return helper.paste_faces_to_input_image(), count
