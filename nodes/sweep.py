"""Quality Sweep: one encode, many lookups and decodes, side by side."""

import torch
from comfy_api.latest import io

from ..iqpbfr_core.figure import labelled_grid
from .decode import adain_input, decode, fidelity_input
from .layout import to_comfy
from .lookup import look_up, quality_input
from .memory import on_device
from .progress import Progress, tell
from .schema import CATEGORY, search_aliases
from .score import score
from .shown import on_node
from .sockets import FEATURES, METRIC, FaceFeatures, LoadedNetwork


class QualitySweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_QualitySweep",
            display_name="Quality Sweep (IQP)",
            category=f"{CATEGORY}/quality",
            description="Restore the same faces at rising quality and compare: a labelled grid, the faces, and their scores.",
            **search_aliases("compare quality", "xy plot"),
            is_output_node=True,
            inputs=[
                FEATURES.Input("features", tooltip="From Encode Face; encoded once, whatever the number of steps."),
                quality_input("first_quality", 0.0),
                quality_input("last_quality", 1.0),
                io.Int.Input("steps", default=5, min=2, max=20, tooltip="Number of qualities from first to last."),
                fidelity_input(),
                adain_input(),
                METRIC.Input("metric", optional=True, tooltip="Optional: writes each face's score below it."),
            ],
            outputs=[
                io.Image.Output("grid", display_name="grid", tooltip="A row per face, a column per quality."),
                io.Image.Output("faces", display_name="faces", tooltip="All faces as a batch: quality by quality."),
                io.Float.Output(
                    "qualities",
                    display_name="qualities",
                    is_output_list=True,
                    tooltip="A list: the qualities asked for.",
                ),
                io.Float.Output(
                    "mean_scores",
                    display_name="mean scores",
                    is_output_list=True,
                    tooltip="A list: mean score per quality; empty without a metric.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        features: FaceFeatures,
        first_quality: float,
        last_quality: float,
        steps: int,
        fidelity: float,
        adain: bool,
        metric: LoadedNetwork | None = None,
    ) -> io.NodeOutput:
        count = len(features.features)
        qualities = torch.linspace(first_quality, last_quality, steps).tolist()
        settings = features.model.restorer.settings
        if notes := dict.fromkeys(note for q in qualities for note in settings(q, fidelity, adain).notes):
            tell(cls, "\n".join(notes))
        progress = Progress(steps * count * (2 if metric is None else 3))
        columns = [
            decode(look_up(features, q, progress=progress), features, fidelity, adain, progress) for q in qualities
        ]
        labels, means = [], []
        if metric is not None:
            with on_device(metric) as ready:
                scores = [score(ready, column, progress) for column in columns]
            labels = [[f"{column[face]:.3f}" for column in scores] for face in range(count)]
            means = [sum(column) / count for column in scores]
        rows = [torch.stack([column[face] for column in columns]) for face in range(count)]
        names = [f"face {number}" for number in range(count)]
        grid = labelled_grid(rows, names, [f"quality {q:.2f}" for q in qualities], labels)[None]
        return io.NodeOutput(to_comfy(grid), to_comfy(torch.cat(columns)), qualities, means, ui=on_node(cls, grid))
