"""Restorers as ONNX files (GPEN, GFPGAN, RestoreFormer++, CodeFormer as swapping tools ship them), run by onnxruntime.

Such a file is one function from a face to a face: there are no codes. Size, inputs and kind of numbers are read from it;
whether its pictures lie in [-1, 1], [0, 1] or [0, 255] it does not say, so that is found by what comes out.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import RestorerConfig, Supports
from ..errors import CheckpointError, InputError, first_line
from ..extras import needs
from .family import Network

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # in order of preference
# (offset, factor) from the network scale [-1, 1] to what a file takes and gives.
_SIGNED, _UNIT, _BYTES = (0.0, 1.0), (0.5, 0.5), (127.5, 127.5)


class OnnxRestorer(Network):
    """z is the images themselves; the one knob a file may have is a number as its second input, the fidelity."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.register_buffer("_place", torch.empty(0), persistent=False)  # knows where results are wanted
        with needs("onnx", f"{path.name}: an ONNX restorer"):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: they are raised as well
        providers = [name for name in _PROVIDERS if name in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers)
        except Exception as error:  # onnxruntime's own, one class per status
            raise CheckpointError(
                f"not a readable ONNX file ({first_line(error)}). Is the download complete?"
            ) from error
        self.image, self.knob = _inputs(list(self.session.get_inputs()))
        self.output = _output(list(self.session.get_outputs()))
        sides = [side for side in self.image.shape[2:] if isinstance(side, int)]
        if len(set(sides)) > 1:
            raise CheckpointError(f"takes faces of {sides[1]}x{sides[0]} pixels; restorers take squares.")
        self.config = RestorerConfig(
            family="onnx",
            resolution=sides[0] if sides else 512,  # any size: what such files are trained at
            widths=(3,),
            encoder_depths=(),
            generator_depths=(),
            code_dim=0,
            num_codes=0,
            lookup_layers=0,
            fusion=(),
        )

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def supports(self) -> Supports:
        has_knob = self.knob is not None
        return Supports(fidelity=has_knob, default_fidelity=0.5 if has_knob else 0.0, codes=False)

    def encode(self, images: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        return images, {}

    def generate(
        self, z_q: Tensor, z: Tensor, skips: dict[int, Tensor], fidelity: Tensor | float = 0.0, adain: bool = False
    ) -> Tensor:
        weights = torch.as_tensor(fidelity).flatten().expand(len(z_q)).tolist()
        offset, factor = self._scale
        faces = z_q.float().cpu() * factor + offset
        # one by one: many files have a batch of one written into them, and one fidelity is for one face
        restored = [self._run(face, weight) for face, weight in zip(faces.split(1), weights, strict=True)]
        result = (torch.cat(restored) - offset) / factor
        if not torch.isfinite(result).all():
            raise InputError("this ONNX model gave NaN or infinity: it is broken, or needs another precision.")
        return result.to(z_q)

    @cached_property
    def _scale(self) -> tuple[float, float]:
        """What comes out for a picture from dark to bright tells the scale; the pictures go in on the same one."""
        if self.image.type == "tensor(uint8)":
            return _BYTES
        shade = torch.linspace(-0.9, 0.9, self.config.resolution).expand(1, 3, self.config.resolution, -1)
        seen = self._run(shade, 0.5)
        if seen.max() > 4:
            return _BYTES
        return _UNIT if seen.min() > -0.05 else _SIGNED

    def _run(self, face: Tensor, fidelity: float) -> Tensor:
        """(1, 3, R, R) on the file's scale -> the same restored, float32."""
        kind = _TYPES[self.image.type]
        values = face.round().clamp(0, 255) if kind is np.uint8 else face
        given: dict[str, Any] = {self.image.name: values.numpy().astype(kind)}
        if self.knob is not None:
            given[self.knob.name] = np.full([1] * len(self.knob.shape), fidelity, _TYPES[self.knob.type])
        try:
            outputs: Any = self.session.run([self.output.name], given)
        except Exception as error:
            raise InputError(f"this ONNX model cannot be run here ({first_line(error)}).") from error
        (restored,) = outputs
        if restored.shape != tuple(face.shape):
            raise InputError(f"this ONNX model makes {restored.shape} of {tuple(face.shape)}: it is no face restorer.")
        return torch.from_numpy(np.ascontiguousarray(restored, dtype=np.float32))


def _is_picture(value: Any) -> bool:
    return len(value.shape) == 4 and value.shape[1] == 3 and value.type in _TYPES


def _is_number(value: Any) -> bool:
    sizes = [size for size in value.shape if isinstance(size, int)]
    return value.type in _TYPES and value.type != "tensor(uint8)" and len(value.shape) <= 1 and sizes in ([], [1])


def _inputs(inputs: list[Any]) -> tuple[Any, Any]:
    """The picture, and the number beside it or None."""
    pictures, numbers = [v for v in inputs if _is_picture(v)], [v for v in inputs if _is_number(v)]
    if len(pictures) != 1 or len(numbers) > 1 or len(pictures) + len(numbers) != len(inputs):
        raise CheckpointError(
            f"takes {_describe(inputs)}; a face restorer takes one picture (batch, 3, side, side), and at most one number."
        )
    return pictures[0], numbers[0] if numbers else None


def _output(outputs: list[Any]) -> Any:
    """The first picture; codes and logits that some files give as well are not asked for."""
    for value in outputs:
        if len(value.shape) == 4 and value.type in _TYPES:
            return value
    raise CheckpointError(f"gives {_describe(outputs)}; a face restorer gives a picture (batch, 3, side, side).")


def _describe(values: list[Any]) -> str:
    return ", ".join(f"{value.name[:50]} {value.type} {value.shape}" for value in values[:6]) or "nothing"
