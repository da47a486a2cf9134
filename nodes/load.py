"""Load Face Restorer, Load IQA Metric."""

import contextlib

import folder_paths
from comfy_api.latest import io

from ..iqpbfr_core.errors import WeightsNotFoundError
from ..iqpbfr_core.quality import METRICS, Metric, load_metric
from .folders import METRIC_FOLDER, naming_the_switch, not_a_restorer, restorer_files
from .memory import BUILTIN, PRECISIONS, load_managed, load_restorer
from .progress import Progress
from .schema import CATEGORY, advanced, check_choice, require_choice, search_aliases
from .sockets import METRIC, RESTORER, LoadedNetwork


class LoadRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_LoadRestorer",
            display_name="Load Face Restorer (IQP)",
            category=f"{CATEGORY}/loaders",
            description="Load a face restoration model: the built-in one, or a file of CodeFormer, IQPIR, RestoreFormer, DAEFR, VQFR, GFPGAN or GPEN (ONNX).",
            **search_aliases("codeformer", "restoreformer", "face model loader"),
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=[BUILTIN, *restorer_files()],
                    tooltip="Files from models/iqpbfr and models/facerestore_models. The family is found from the file's contents.",
                ),
                advanced(
                    io.Combo.Input(
                        "precision",
                        options=list(PRECISIONS),
                        default="auto",
                        tooltip="auto follows ComfyUI's policy for this machine. Half precision saves memory.",
                    )
                ),
            ],
            outputs=[
                RESTORER.Output(
                    "restorer", display_name="restorer", tooltip="For Encode Face and the all-in-one nodes."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str) -> bool | str:
        wrong = not_a_restorer(model_name) or check_choice("model_name", model_name, [BUILTIN, *restorer_files()])
        return wrong or True

    @classmethod
    def execute(cls, model_name: str, precision: str) -> io.NodeOutput:
        require_choice("precision", precision, PRECISIONS)
        return io.NodeOutput(load_restorer(model_name, precision))


class LoadMetric(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_LoadMetric",
            display_name="Load IQA Metric (IQP)",
            category=f"{CATEGORY}/loaders",
            description="Load a no-reference image quality metric. Scores lie in [0, 1], 1 is best, whatever the metric's own scale.",
            **search_aliases("iqa", "pyiqa", "quality model"),
            inputs=[
                io.Combo.Input(
                    "metric_name",
                    options=list(METRICS),
                    default=METRICS[0],
                    tooltip="builtin is part of this extension and grades faces. The others come from pyiqa and need their weights in models/iqa.",
                ),
                io.Boolean.Input(
                    "allow_download",
                    default=False,
                    tooltip="Let missing weights be downloaded into models/iqa. Off: nothing touches the network.",
                ),
            ],
            outputs=[
                METRIC.Output(
                    "metric",
                    display_name="metric",
                    tooltip="For Score Image, Quality Gate, Filter by Score, Quality Sweep, Optimize Codes and Restore to Target Quality.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, metric_name: str) -> bool | str:
        return check_choice("metric_name", metric_name, list(METRICS)) or True

    @classmethod
    def execute(cls, metric_name: str, allow_download: bool) -> io.NodeOutput:
        if metric_name == METRICS[0]:
            return io.NodeOutput(load_managed(metric_name, load_metric))
        return io.NodeOutput(LoadedNetwork(metric_name, cls._load(metric_name, allow_download)))

    @staticmethod
    def _load(name: str, allow_download: bool) -> Metric:
        """From the folder that has the weights; what is missing in all of them is fetched into the first."""
        folders = folder_paths.get_folder_paths(METRIC_FOLDER)
        for folder in folders:
            with contextlib.suppress(WeightsNotFoundError):
                return load_metric(name, folder=folder)
        with naming_the_switch():
            return load_metric(name, folder=folders[0], download=allow_download, progress=Progress(1).set)
