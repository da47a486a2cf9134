"""Score Image, Filter by Score."""

import torch
from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker
from torch import Tensor

from ..iqpbfr_core.figure import captioned, overlay
from ..iqpbfr_core.heatmap import STEPS, quality_map
from ..iqpbfr_core.restorer import check_range
from .bridge import Progress, management, on_device, score, to_comfy, to_images
from .schema import CATEGORY, search_aliases
from .shown import MAX_COUNT, on_node, small
from .sockets import METRIC, LoadedNetwork


def report(name: str, scores: list[float]) -> str:
    """Scores as text, a line each."""
    lines = [f"{name}: mean {sum(scores) / len(scores):.4f} of {len(scores)}"]
    return "\n".join(lines + [f"{number}: {value:.4f}" for number, value in enumerate(scores)])


class ScoreImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_ScoreImage",
            display_name="Score Image (IQP)",
            category=f"{CATEGORY}/quality",
            description="Measure how good images are, without a reference. 1 is best.",
            **search_aliases("iqa", "quality score", "niqe", "musiq"),
            is_output_node=True,
            inputs=[
                METRIC.Input("metric", tooltip="From Load IQA Metric."),
                io.Image.Input("image", tooltip="Any images; the built-in metric was trained on aligned faces."),
                io.Boolean.Input(
                    "heat_map",
                    default=False,
                    tooltip="Also score overlapping windows and paint where the quality is (yellow) and where not (dark). 49 times the work.",
                ),
            ],
            outputs=[
                io.Float.Output("mean_score", display_name="mean score", tooltip="Mean over the batch."),
                io.Float.Output(
                    "scores", display_name="scores", is_output_list=True, tooltip="A list: one score per image."
                ),
                io.String.Output("text", display_name="text", tooltip="The scores as text, for Preview Any."),
                io.Image.Output("heat_map_image", display_name="heat map", tooltip="Runs on only when heat_map is on."),
            ],
        )

    @classmethod
    def execute(cls, metric: LoadedNetwork, image: Tensor, heat_map: bool) -> io.NodeOutput:
        images = to_images(image)
        progress = Progress(len(images) * (1 + heat_map * STEPS * STEPS))
        with on_device(metric) as ready:
            scores = score(ready, images, progress)
            picture = _heat_map(ready, images, progress) if heat_map else None
        return io.NodeOutput(
            sum(scores) / len(scores),
            scores,
            report(metric.name, scores),
            ExecutionBlocker(None) if picture is None else to_comfy(picture),
            ui=on_node(cls, _scored(images if picture is None else picture, scores)),
        )


def _scored(images: Tensor, scores: list[float]) -> Tensor:
    """The pictures a node can show, (B, 3, H, W), each with its score."""
    shown = small(images[:MAX_COUNT])
    return captioned(shown, [f"{score:.3f}" for score in scores[: len(shown)]])


def _heat_map(metric, images: Tensor, progress: Progress) -> Tensor:
    """Images under their window scores; the ends of the colour scale are the lowest and highest window of the batch."""
    device = management.get_torch_device()
    maps = torch.cat([quality_map(image.to(device), metric, progress.advance) for image in images.split(1)])
    low, high = maps.amin(), maps.amax()
    return overlay(images.cpu(), (maps - low) / (high - low).clamp_min(1e-6))


class FilterByScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_FilterByScore",
            display_name="Filter by Score (IQP)",
            category=f"{CATEGORY}/quality",
            description="Sort a batch by quality and keep the best, or those above a score.",
            **search_aliases("best of batch", "sort by quality", "iqa filter"),
            is_output_node=True,
            inputs=[
                METRIC.Input("metric", tooltip="From Load IQA Metric."),
                io.Image.Input("image", tooltip="A batch of images."),
                io.Float.Input(
                    "min_score",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Images below this score are left out.",
                ),
                io.Int.Input("max_count", default=1, min=1, max=4096, tooltip="Keep at most so many, the best first."),
            ],
            outputs=[
                io.Image.Output(
                    "kept",
                    display_name="kept",
                    tooltip="The best images, best first. Nothing downstream runs when none passes.",
                ),
                io.Image.Output(
                    "rest",
                    display_name="rest",
                    tooltip="The others, best first. Nothing downstream runs when there are none.",
                ),
                io.Float.Output(
                    "scores", display_name="scores", is_output_list=True, tooltip="A list: scores of the kept images."
                ),
                io.String.Output("text", display_name="text", tooltip="All scores as text, in the order of the batch."),
            ],
        )

    @classmethod
    def execute(cls, metric: LoadedNetwork, image: Tensor, min_score: float, max_count: int) -> io.NodeOutput:
        check_range("min_score", min_score, 0, 1)
        images = to_images(image)
        with on_device(metric) as ready:
            scores = score(ready, images, Progress(len(images)))
        order = sorted(range(len(scores)), key=lambda number: -scores[number])
        kept = [number for number in order if scores[number] >= min_score][:max_count]
        rest = [number for number in order if number not in kept]
        kept_images, rest_images = (image[part] if part else ExecutionBlocker(None) for part in (kept, rest))
        kept_scores = [scores[number] for number in kept]
        return io.NodeOutput(
            kept_images,
            rest_images,
            kept_scores,
            report(metric.name, scores),
            ui=on_node(cls, _scored(images[kept], kept_scores)) if kept else None,
        )
