"""Between ComfyUI and the core: tensor layout, devices and memory, progress and interruption, folders."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io
from server import PromptServer
from torch import Tensor

from ..iqpbfr_core import strangers
from ..iqpbfr_core.checkpoint import RESTORER_SUFFIXES, SUFFIXES, load_network
from ..iqpbfr_core.errors import InputError, WeightsNotFoundError
from ..iqpbfr_core.faces import alignment
from ..iqpbfr_core.faces.detection import DETECTOR_FILES
from ..iqpbfr_core.faces.face import Faces
from ..iqpbfr_core.faces.masks import template_mask
from ..iqpbfr_core.faces.paste import paste
from ..iqpbfr_core.image import MIN_SIDE, check_images, resize
from ..iqpbfr_core.image import check_mask as check_shares
from ..iqpbfr_core.quality import Metric
from ..iqpbfr_core.restorer import Restorer
from .sockets import LoadedNetwork, LoadedRestorer

T = TypeVar("T")

BUILTIN = "built-in small"
PRECISIONS = {"auto": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
RESTORER_FOLDERS = ("iqpbfr", "facerestore_models")
METRIC_FOLDER = "iqa"
DETECTION_FOLDER = "facedetection"
ADAPTER_FOLDER = "iqpbfr_adapters"
MAX_CHUNK = 16  # faces per forward pass: above, there is nothing to gain and interruption gets slow


def add_model_folders() -> None:
    """Make our model folders known to ComfyUI; those other packs have set up are read as they are."""
    for name in (*RESTORER_FOLDERS, METRIC_FOLDER, DETECTION_FOLDER, ADAPTER_FOLDER):
        is_new = name not in folder_paths.folder_names_and_paths
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        if is_new:
            folder_paths.folder_names_and_paths[name] = (folder_paths.get_folder_paths(name), set(RESTORER_SUFFIXES))


def restorer_files() -> list[str]:
    """Files in our folder and in the one face restoration packs share, each name once, without what is no restorer."""
    names = [name for folder in RESTORER_FOLDERS for name in folder_paths.get_filename_list(folder)]
    names = list(dict.fromkeys(name for name in names if name.lower().endswith(RESTORER_SUFFIXES)))
    return [name for name in names if (path := _full_path(name)) and not strangers.what_it_is(path)]


def face_files() -> list[str]:
    """RetinaFace files users may have beside the named ones."""
    names = folder_paths.get_filename_list(DETECTION_FOLDER)
    names = [name for name in names if name.lower().endswith(SUFFIXES) and name not in DETECTOR_FILES]
    return [name for name in names if strangers.is_detector(folder_paths.get_full_path(DETECTION_FOLDER, name))]


def adapter_files() -> list[str]:
    """Score adapters, which are always of one format."""
    return [name for name in folder_paths.get_filename_list(ADAPTER_FOLDER) if name.lower().endswith(".safetensors")]


def restorer_path(name: str) -> str:
    """Full path of a file in the folders of restorers."""
    if path := _full_path(name):
        return path
    raise InputError(
        f"restorer {name!r} is not there any more. Put it into one of: "
        + ", ".join(path for folder in RESTORER_FOLDERS for path in folder_paths.get_folder_paths(folder))
    )


def not_a_restorer(name: str) -> str:
    """What a file in the folders of restorers is that is none, or ""."""
    path = _full_path(name)
    words = strangers.what_it_is(path) if path else ""
    return f"{name}: {words}." if words else ""


def _full_path(name: str) -> str | None:
    paths = (folder_paths.get_full_path(folder, name) for folder in RESTORER_FOLDERS)
    return next(filter(None, paths), None)


def load_restorer(name: str, precision: str) -> LoadedRestorer:
    """Load a restorer so that ComfyUI can keep any part of it off the GPU."""
    path = "builtin" if name == BUILTIN else restorer_path(name)
    device = management.get_torch_device()
    with torch.inference_mode(False):  # weights made in inference mode could never take part in a gradient
        network = load_network(path, comfy.ops.disable_weight_init)
        size = sum(p.numel() for p in network.parameters())
        dtype = PRECISIONS[precision] or management.unet_dtype(device=device, model_params=size)
        return LoadedRestorer(name, Restorer(network.to(dtype), device), patch(network))


def load_managed(name: str, load: Callable[..., Any], *args: Any, **options: Any) -> LoadedNetwork:
    """A detector, parser or metric of ours, from its `load` function: ComfyUI may keep any part of it off the GPU."""
    with torch.inference_mode(False):
        holder = load(*args, **options, operations=comfy.ops.disable_weight_init)
        holder.device = management.get_torch_device()
        return LoadedNetwork(name, holder, patch(holder.network))


def patch(network: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
    """What ComfyUI moves a network by. The class is looked up when it is needed: newer versions replace it."""
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    offload = management.unet_offload_device()
    return patcher(network, load_device=management.get_torch_device(), offload_device=offload)


def to_images(image: Tensor) -> Tensor:
    """IMAGE (B, H, W, C) to (B, 3, H, W) float32; an alpha channel is dropped, a grey one repeated."""
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise InputError(f"an IMAGE must have shape (B, H, W, 3), got {tuple(image.shape)}.")
    channels = image[..., :3].movedim(-1, 1).float()
    channels = channels.expand(-1, 3, -1, -1) if channels.shape[1] == 1 else channels
    low, high = channels.aminmax() if channels.numel() else (0, 1)
    is_overshot = low > -0.5 and high < 1.5  # as sharpening and upscaling do; NaN is not, nor is another range
    return check_images(channels.clamp(0, 1) if is_overshot else channels, "the image")


def to_faces(image: Tensor, side: int) -> Tensor:
    """IMAGE of aligned, square faces to (B, 3, side, side)."""
    images = to_images(image)
    height, width = images.shape[2:]
    if height != width:
        raise InputError(
            f"aligned faces are square, this image is {width}x{height}. Crop the face first (at least {MIN_SIDE} px)."
        )
    return resize(images, (side, side))


def to_comfy(images: Tensor) -> Tensor:
    """(B, 3, H, W) to IMAGE (B, H, W, 3), on the device ComfyUI keeps results on."""
    return images.float().movedim(1, -1).contiguous().to(management.intermediate_device())


def to_mask(images: Tensor, faces: Faces) -> Tensor:
    """MASK (B, H, W) of what restoring these faces of (B, 3, H, W) would touch."""
    side = 256
    white = images.new_ones(len(faces), 3, side, side)
    return paste(images, white, faces, alignment.align(faces, side), template_mask(side))[1][:, 0]


def check_mask(mask: Tensor | None, count: int, *sizes: tuple[int, int]) -> Tensor | None:
    """MASK (1 or `count`, H, W) of one of the `sizes` (H, W) to (1 or count, 1, H, W) in [0, 1]; None if there is none.

    Load Image gives an empty mask of 64 x 64 with pictures that have no transparency: that is none, too.
    """
    if mask is None or (mask.shape[-2:] == (64, 64) and not mask.any()):
        return None
    if mask.ndim != 3 or len(mask) not in (1, count):
        raise InputError(f"the mask must be one, or one for each of {count} images; got shape {tuple(mask.shape)}.")
    if tuple(mask.shape[1:]) not in sizes:
        height, width = sizes[0]
        raise InputError(
            f"the mask is {mask.shape[2]}x{mask.shape[1]} pixels, the photo {width}x{height}. Paint it on this photo, or "
            "bring it to that size (Convert Mask to Image, Upscale Image, Convert Image to Mask)."
        )
    return check_shares(mask[:, None].float())


def tell(node: type[io.ComfyNode], text: str) -> str:
    """Show a text on the node that runs, which has to have `hidden=[io.Hidden.unique_id]`; returns the text."""
    PromptServer.instance.send_progress_text(text, node.hidden.unique_id)
    return text


def face_memory(restorer: Restorer) -> int:
    """Bytes one face needs at the most: about ten maps of the widest first level."""
    config = restorer.config
    side = config.resolution // config.head
    return 10 * side * side * config.widths[0] * restorer.dtype.itemsize


def chunk_size(restorer: Restorer) -> int:
    """How many faces fit into the free memory at once."""
    free = management.get_free_memory(restorer.device)
    return max(1, min(MAX_CHUNK, int(0.8 * free) // face_memory(restorer)))


class Progress:
    """ComfyUI's progress bar, which also stops the run when the user asked for it."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)

    def set(self, done: int, total: int, preview: Any = None) -> None:
        self._bar.update_absolute(done, total, preview)
        management.throw_exception_if_processing_interrupted()

    def advance(self, count: int = 1) -> None:
        self.set(self._bar.current + count, self._bar.total)


def load_weights(model: LoadedRestorer, count: int, whole: bool = False) -> None:
    """Bring the weights to where they run, with room for `count` faces; ComfyUI moves them away when it has to.

    `whole`: load all of them, even in low memory modes, as gradients need them.
    """
    memory = face_memory(model.restorer) * min(count, MAX_CHUNK)
    management.load_models_gpu([model.patcher], memory_required=memory, force_full_load=whole)


def over_faces(
    model: LoadedRestorer, count: int, work: Callable[[slice], T], progress: Progress | None = None
) -> list[T]:
    """Call `work` on slices of `count` faces with the model's weights loaded."""
    progress = progress or Progress(count)
    results = []
    load_weights(model, count)
    size = chunk_size(model.restorer)
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        results.append(work(part))
        progress.advance(part.stop - part.start)
    return results


@contextmanager
def naming_the_switch() -> Iterator[None]:
    """Say about missing weights what can be done in the node that misses them."""
    try:
        yield
    except WeightsNotFoundError as error:
        raise WeightsNotFoundError(f"{error} In this node: switch allow_download on, or put the file there.") from error


@contextmanager
def stopping(holder: Any) -> Iterator[None]:
    """Before every forward pass of a detector or parser, if there is one, ask whether the user wants to stop."""
    if holder is None:
        yield
        return
    ask = holder.network.register_forward_pre_hook(lambda *_: management.throw_exception_if_processing_interrupted())
    try:
        yield
    finally:
        ask.remove()


@contextmanager
def on_device(loaded: LoadedNetwork | None) -> Iterator[Any]:
    """A metric, detector or parser ready to run; None stays None.

    What has a patcher is loaded, in parts if need be, and stays until ComfyUI needs the room. pyiqa's metrics go to the
    device whole, and back to the CPU afterwards.
    """
    if loaded is None:
        yield None
        return
    holder = loaded.holder
    if loaded.patcher is not None:
        management.load_models_gpu([loaded.patcher])
        yield holder
        return
    device = management.get_torch_device()
    management.free_memory(management.module_size(holder.network) + management.minimum_inference_memory(), device)
    try:
        yield holder.to(device)
    finally:
        holder.to("cpu")
        management.soft_empty_cache()


def score(metric: Metric, images: Tensor, progress: Progress) -> list[float]:
    """Scores of (B, 3, H, W), one after the other: any size fits, and a batch equals its single images."""
    device = management.get_torch_device()
    scores = []
    for image in images.split(1):
        scores.append(metric(image.to(device)).item())
        progress.advance()
    return scores
