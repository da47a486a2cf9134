"""Run under ComfyUI's Python: restore with all weights loaded, and with (almost) none, cast as they are used.

Prints the largest difference. This is what --lowvram and --novram do on a GPU.
"""

import asyncio
import importlib
import importlib.util
import sys
from pathlib import Path

comfyui, root = sys.argv[1:3]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, comfyui)

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.ops  # noqa: E402
import torch  # noqa: E402
import utils.extra_config  # noqa: E402, F401  (before another `utils` takes the name, as main.py does)

spec = importlib.util.spec_from_file_location("iqp", Path(root) / "__init__.py", submodule_search_locations=[root])
extension = importlib.util.module_from_spec(spec)
sys.modules["iqp"] = extension
spec.loader.exec_module(extension)
asyncio.run(asyncio.run(extension.comfy_entrypoint()).get_node_list())
memory = importlib.import_module("iqp.nodes.memory")
adapters, checkpoint, presets, quality, restorer = (
    importlib.import_module(f"iqp.iqpbfr_core.{name}")
    for name in ("adapters", "checkpoint", "training.presets", "quality", "restorer")
)

with torch.inference_mode():
    model = memory.load_restorer(memory.BUILTIN, "fp32")
    face = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    whole = model.restorer.restore(face)
    model.patcher.load("cpu", lowvram_model_memory=1)
    assert model.patcher.model.model_lowvram
    difference = (model.restorer.restore(face) - whole).abs().max().item()

    # Networks with batch normalisation, which ComfyUI's operations do not have.
    metric = memory.load_managed("builtin", quality.load_metric)
    whole = metric.holder(face)
    metric.patcher.load("cpu", lowvram_model_memory=1)
    assert metric.patcher.model.model_lowvram
    with memory.on_device(metric) as ready:
        difference += (ready(face) - whole).abs().max().item()

    # A score adapter, which has no patcher of its own.
    network = checkpoint.build_network(presets.SMALL_PLAIN, comfy.ops.disable_weight_init)
    for number, parameter in enumerate(network.parameters()):
        parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(number))
    base, patcher = restorer.Restorer(network, torch.device("cpu")), memory.patch(network)
    adapter = adapters.new_adapter(base)
    adapter.network.values.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    adapted = adapter.attach(base)
    whole = adapted.restore(face, 0.3)
    assert not torch.equal(whole, base.restore(face))
    patcher.load("cpu", lowvram_model_memory=1)
    assert patcher.model.model_lowvram
    difference += (adapted.restore(face, 0.3) - whole).abs().max().item()
    sys.stdout.write(f"{difference}\n")
