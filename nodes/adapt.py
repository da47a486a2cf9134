"""Load Score Adapter, Apply Score Adapter: a quality for restorers that were trained without one."""

import folder_paths
import torch
from comfy_api.latest import io

from ..iqpbfr_core.adapters import load_adapter
from ..iqpbfr_core.errors import InputError
from .folders import ADAPTER_FOLDER, adapter_files
from .schema import CATEGORY, check_choice, search_aliases
from .sockets import ADAPTER, RESTORER, LoadedAdapter, LoadedRestorer


class LoadScoreAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_LoadScoreAdapter",
            display_name="Load Score Adapter (IQP)",
            category=f"{CATEGORY}/loaders",
            description="Load a score adapter: a small file that gives a restorer a quality it was not trained with.",
            **search_aliases("quality adapter", "codeformer quality", "lora"),
            inputs=[
                io.Combo.Input(
                    "adapter_name",
                    options=adapter_files(),
                    tooltip="Files from models/iqpbfr_adapters, written by iqpbfr train adapter.",
                )
            ],
            outputs=[ADAPTER.Output("adapter", display_name="adapter", tooltip="For Apply Score Adapter.")],
        )

    @classmethod
    def validate_inputs(cls, adapter_name: str) -> bool | str:
        files = adapter_files()
        if not files:
            folders = ", ".join(folder_paths.get_folder_paths(ADAPTER_FOLDER))
            return f"There is no score adapter in {folders}. Train one (iqpbfr train adapter) and put it there."
        return check_choice("adapter_name", adapter_name, files) or True

    @classmethod
    def execute(cls, adapter_name: str) -> io.NodeOutput:
        path = folder_paths.get_full_path(ADAPTER_FOLDER, adapter_name)
        if path is None:
            raise InputError(f"score adapter {adapter_name!r} is not there any more. Choose another one.")
        with torch.inference_mode(False):  # weights made in inference mode could never take part in a gradient
            return io.NodeOutput(LoadedAdapter(adapter_name, load_adapter(path)))


class ApplyScoreAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_ApplyScoreAdapter",
            display_name="Apply Score Adapter (IQP)",
            category=f"{CATEGORY}/loaders",
            description="Give a restorer a quality: its weights stay as they are, and every other node then obeys quality.",
            **search_aliases("quality adapter", "codeformer quality"),
            inputs=[
                RESTORER.Input("restorer", tooltip="From Load Face Restorer: the model the adapter was trained for."),
                ADAPTER.Input("adapter", tooltip="From Load Score Adapter."),
            ],
            outputs=[
                RESTORER.Output(
                    "adapted",
                    display_name="restorer",
                    tooltip="For Encode Face and the all-in-one nodes. The restorer that came in can still be used without the adapter.",
                )
            ],
        )

    @classmethod
    def execute(cls, restorer: LoadedRestorer, adapter: LoadedAdapter) -> io.NodeOutput:
        name = f"{restorer.name} with {adapter.name}"
        # The adapter follows the restorer's weights, which are moved by the patcher they came with.
        return io.NodeOutput(LoadedRestorer(name, adapter.adapter.attach(restorer.restorer), restorer.patcher))
