"""Score Image, Filter by Score."""

import comfy.model_management as management
import torch
from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker
from torch import Tensor

from ..iqpbfr_core.faces import alignment
from ..iqpbfr_core.faces.face import Faces
from ..iqpbfr_core.figure import captioned, enlarge, overlay
from ..iqpbfr_core.heatmap import STEPS, quality_map
from ..iqpbfr_core.quality import Metric
from ..iqpbfr_core.restorer import check_range
from .layout import to_comfy, to_images
from .memory import on_device
from .progress import Progress, tell
from .schema import CATEGORY, search_aliases
from .shown import MAX_COUNT, on_node, small
from .sockets import FACES, METRIC, LoadedNetwork

# Of faces cut out to be scored: what pyiqa's face metrics expect; the built-in one brings them to its own.
FACE_SIDE = 512


def score(metric: Metric, images: Tensor, progress: Progress) -> list[float]:
    """Scores of (B, 3, H, W), one after the other: any size fits, and a batch equals its single images."""
    device = management.get_torch_device()
    scores = []
    for image in images.split(1):
        scores.append(metric(image.to(device)).item())
        progress.advance()
    return scores


def score_faces(metric: Metric, images: Tensor, faces: Faces) -> list[float]:
    """Scores of (B, 3, H, W): each the mean over its aligned faces, 0 without one."""
    faces.check_belong(images)
    of_faces = score(metric, alignment.crop(images, faces, FACE_SIDE), Progress(len(faces))) if len(faces) else []
    of_images = [[] for _ in images]
    for frame, value in zip(faces.frames.tolist(), of_faces, strict=True):
        of_images[frame].append(value)
    return [sum(values) / max(1, len(values)) for values in of_images]


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
                io.Mask.Output(
                    "bad_mask",
                    display_name="mask",
                    tooltip="White where the quality is lowest, to work on those places only. Runs on only when heat_map is on.",
                ),
            ],
        )

    @classmethod
    def execute(cls, metric: LoadedNetwork, image: Tensor, heat_map: bool) -> io.NodeOutput:
        images = to_images(image)
        progress = Progress(len(images) * (1 + heat_map * STEPS * STEPS))
        shown, heat, bad = images, ExecutionBlocker(None), ExecutionBlocker(None)
        with on_device(metric) as ready:
            scores = score(ready, images, progress)
            if heat_map:
                quality = _relative_quality(ready, images, progress)
                shown = overlay(images.cpu(), quality)
                heat, bad = to_comfy(shown), 1 - enlarge(quality, images.shape[2:])
        text = report(metric.name, scores)
        return io.NodeOutput(
            sum(scores) / len(scores), scores, text, heat, bad, ui=on_node(cls, _scored(shown, scores))
        )


def _scored(images: Tensor, scores: list[float]) -> Tensor:
    """The pictures a node can show, (B, 3, H, W), each with its score."""
    shown = small(images[:MAX_COUNT])
    return captioned(shown, [f"{score:.3f}" for score in scores[: len(shown)]])


def _relative_quality(metric, images: Tensor, progress: Progress) -> Tensor:
    """Window scores (B, STEPS, STEPS) of images (B, 3, H, W): 0 is the lowest of the batch, 1 the highest."""
    device = management.get_torch_device()
    maps = torch.cat([quality_map(image.to(device), metric, progress.advance) for image in images.split(1)])
    low, high = maps.amin(), maps.amax()
    return (maps - low) / (high - low).clamp_min(1e-6)


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
                FACES.Input(
                    "faces",
                    optional=True,
                    tooltip="Optional: the faces Detect Faces found in these images. They are scored instead of the whole image; without a face it scores 0.",
                ),
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
    def execute(
        cls, metric: LoadedNetwork, image: Tensor, min_score: float, max_count: int, faces: Faces | None = None
    ) -> io.NodeOutput:
        check_range("min_score", min_score, 0, 1)
        images = to_images(image)
        with on_device(metric) as ready:
            scores = (
                score_faces(ready, images, faces) if faces is not None else score(ready, images, Progress(len(images)))
            )
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


class QualityGate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_QualityGate",
            display_name="Quality Gate (IQP)",
            category=f"{CATEGORY}/quality",
            description="Send a batch one way if it is good enough, and the other if not, such as into restoration or past it.",
            **search_aliases("switch", "if", "route by score", "iqa"),
            inputs=[
                METRIC.Input("metric", tooltip="From Load IQA Metric."),
                io.Image.Input("image", tooltip="Images that stay together: the mean of their scores decides."),
                io.Float.Input(
                    "min_score",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="From this score on, images are good enough. Score Image tells what yours have.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "good", display_name="good", tooltip="The images, if they are good enough; else nothing runs here."
                ),
                io.Image.Output(
                    "poor", display_name="poor", tooltip="The images, if they are not; else nothing runs here."
                ),
                io.Float.Output("mean_score", display_name="mean score", tooltip="What was measured."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, metric: LoadedNetwork, image: Tensor, min_score: float) -> io.NodeOutput:
        check_range("min_score", min_score, 0, 1)
        images = to_images(image)
        with on_device(metric) as ready:
            scores = score(ready, images, Progress(len(images)))
        mean = sum(scores) / len(scores)
        is_good, nothing = mean >= min_score, ExecutionBlocker(None)
        tell(cls, f"{mean:.3f}: {'good' if is_good else 'poor'}")
        return io.NodeOutput(image if is_good else nothing, nothing if is_good else image, mean)
