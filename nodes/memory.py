"""Networks on their device, moved by ComfyUI: loaded, kept in parts if need be, and run on as much as fits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import comfy.model_management as management
import comfy.model_patcher
import comfy.ops
import torch

from ..iqpbfr_core.checkpoint import load_network
from ..iqpbfr_core.restorer import Restorer
from .folders import restorer_path
from .progress import Progress
from .sockets import LoadedNetwork, LoadedRestorer

T = TypeVar("T")
BUILTIN = "built-in small"
PRECISIONS = {"auto": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MAX_CHUNK = 16  # faces per forward pass: above, there is nothing to gain and interruption gets slow


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


def face_memory(restorer: Restorer) -> int:
    """Bytes one face needs at the most: about ten maps of the widest first level."""
    config = restorer.config
    side = config.resolution // config.head
    return 10 * side * side * config.widths[0] * restorer.dtype.itemsize


def chunk_size(restorer: Restorer) -> int:
    """How many faces fit into the free memory at once."""
    free = management.get_free_memory(restorer.device)
    return max(1, min(MAX_CHUNK, int(0.8 * free) // face_memory(restorer)))


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
