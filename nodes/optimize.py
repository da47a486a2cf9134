"""Optimize Codes, Restore to Target Quality."""

import weakref

import comfy.model_management as management
import torch
from comfy_api.latest import io
from torch import Tensor

from ..iqpbfr_core.codes import BOOKS
from ..iqpbfr_core.figure import line_plot
from ..iqpbfr_core.image import to_pil
from ..iqpbfr_core.optimize import OptimizationResult, WeightedMean, WorstOf, optimize_codes, restore_to_target
from ..iqpbfr_core.optimize import Progress as State
from . import unfinished
from .decode import adain_input
from .layout import to_comfy, to_faces
from .memory import chunk_size, load_weights, on_device, over_faces
from .progress import Progress
from .schema import CATEGORY, advanced, require_choice, search_aliases
from .shown import on_node
from .sockets import CODES, FEATURES, METRIC, RESTORER, FaceCodes, FaceFeatures, LoadedNetwork, LoadedRestorer

COMBINATIONS = {"mean": WeightedMean, "worst": WorstOf}


class OptimizeCodes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_OptimizeCodes",
            display_name="Optimize Codes (IQP)",
            category=f"{CATEGORY}/quality",
            description="Search the code map for faces a quality metric scores higher. Every step is made of real codes, so it stays a face; the result never scores lower than the start.",
            **search_aliases("improve quality", "iqa optimisation"),
            is_output_node=True,
            inputs=[
                CODES.Input("base_codes", tooltip="Where to start, from Look Up Codes."),
                FEATURES.Input("features", tooltip="From Encode Face: the faces these codes belong to."),
                METRIC.Input("metric", tooltip="What to raise. Judge the result by another metric than this one."),
                io.Int.Input(
                    "steps",
                    default=15,
                    min=1,
                    max=1000,
                    tooltip="Each costs one pass forward and back through decoder and metric.",
                ),
                io.Float.Input(
                    "max_changed",
                    default=0.2,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Largest share of tokens that may change: how far the face may go from the start.",
                ),
                advanced(
                    io.Float.Input(
                        "prior_weight",
                        default=0.1,
                        min=0.0,
                        max=10.0,
                        step=0.01,
                        tooltip="How strongly to stay with what the lookup thought likely.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "codebook",
                        options=list(BOOKS),
                        default="both",
                        tooltip="Which codes may change; models with one codebook have only both.",
                    )
                ),
                io.Float.Input(
                    "fidelity",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Decode with this fidelity while searching; use the same in Decode Face.",
                ),
                adain_input(),
                advanced(
                    io.Float.Input(
                        "target_score",
                        default=1.0,
                        min=0.0,
                        max=1.0,
                        step=0.01,
                        display_mode=io.NumberDisplay.slider,
                        tooltip="Stop a face that has reached this score; 1 goes on.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "noise",
                        default=0.0,
                        min=0.0,
                        max=2.0,
                        step=0.05,
                        tooltip="Above 0, codes are sampled while searching: more variety, less direct.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "seed",
                        default=0,
                        min=0,
                        max=2**31 - 1,
                        control_after_generate=False,
                        tooltip="Of the noise; no effect at noise 0.",
                    )
                ),
                METRIC.Input("second_metric", optional=True, tooltip="Optional: raise two metrics at once."),
                advanced(
                    io.Combo.Input(
                        "combine",
                        options=list(COMBINATIONS),
                        default="mean",
                        optional=True,
                        tooltip="With two metrics: raise their mean, or the worse of both.",
                    )
                ),
            ],
            outputs=[
                CODES.Output(
                    "codes",
                    display_name="codes",
                    tooltip="The best codes found, for Decode Face. Interrupting hands on the best so far; running again goes on searching.",
                ),
                io.Image.Output("image", display_name="image", tooltip="The faces they decode to."),
                io.Image.Output(
                    "plot", display_name="trace", tooltip="A plot of score and changed tokens over the steps."
                ),
                io.Float.Output(
                    "scores",
                    display_name="scores",
                    is_output_list=True,
                    tooltip="A list: best mean score after every step; the first is the start.",
                ),
                io.String.Output("text", display_name="text", tooltip="What was reached, face by face."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs) -> int:
        return unfinished.fingerprint(inputs)

    @classmethod
    def execute(
        cls,
        base_codes: FaceCodes,
        features: FaceFeatures,
        metric: LoadedNetwork,
        steps: int,
        max_changed: float,
        prior_weight: float,
        codebook: str,
        fidelity: float,
        adain: bool,
        target_score: float,
        noise: float,
        seed: int,
        second_metric: LoadedNetwork | None = None,
        combine: str = "mean",
    ) -> io.NodeOutput:
        base_codes.check_same_model(features.model)
        require_choice("combine", combine, COMBINATIONS)
        widgets = {
            "steps": steps,
            "max_changed": max_changed,
            "prior_weight": prior_weight,
            "codebook": codebook,
            "fidelity": fidelity,
            "adain": adain,
            "target_score": target_score,
            "noise": noise,
            "seed": seed,
            "combine": combine,
        }
        before = unfinished.left_by(widgets, base_codes)
        restorer = features.model.restorer
        settings = restorer.settings(fidelity=fidelity, adain=adain)
        progress = Progress(1)
        load_weights(features.model, len(features.features), whole=True)
        with (
            on_device(metric) as first,
            on_device(second_metric) as second,
        ):
            result = optimize_codes(
                restorer,
                base_codes.codes.to(restorer.device),
                features.features.to(restorer.device),
                first if second is None else COMBINATIONS[combine]([first, second]),
                before.steps_left if before else steps,
                books=codebook,
                prior_weight=prior_weight,
                max_changed=max_changed,
                noise=noise,
                target=None if target_score >= 1 else target_score,
                fidelity=settings.fidelity,
                adain=settings.adain,
                seed=seed,
                chunk=max(1, chunk_size(restorer) // 4),  # gradients keep the activations
                callback=lambda state: _show(state, progress),
                go_on_from=None if before is None else before.found,
            )
        rest = management.intermediate_device()
        left = _what_is_left(result, widgets, base_codes, before.steps_left if before else steps)
        if left is not None:
            unfinished.keep(left)
        elif before is not None:
            unfinished.forget(before)
        trace = trace_plot(result)[None]
        return io.NodeOutput(
            FaceCodes(base_codes.model, result.codes.to(rest)),
            to_comfy(result.images),
            to_comfy(trace),
            _running_mean(result),
            "\n".join([*settings.notes, report(result)]),
            ui=on_node(cls, result.images, trace),
        )


def _what_is_left(
    result: OptimizationResult, widgets: unfinished.Settings, start: FaceCodes, steps: int
) -> unfinished.Search | None:
    """What running again is to go on with; None if no face was interrupted."""
    is_interrupted = torch.tensor([reason == "interrupted" for reason in result.stop_reasons])
    if not is_interrupted.any():
        return None
    done = result.trace.scores[:, is_interrupted].isfinite().sum(0).min().item() - 1  # row 0 is the start
    return unfinished.Search(widgets, weakref.ref(start), result.codes.to("cpu"), max(1, steps - int(done)))


def _show(state: State, progress: Progress) -> bool:
    """Progress with the best face so far. Pressing interrupt ends the search, and the graph goes on with the best."""
    if management.processing_interrupted():  # asked first: ComfyUI's progress bar raises on it
        management.interrupt_current_processing(False)
        return False
    progress.set(state.done, state.total, ("JPEG", to_pil(state.images[0]), 512))
    return True


def _running_mean(result: OptimizationResult) -> list[float]:
    scores = result.trace.scores.float().nan_to_num(-1)
    return scores.cummax(0).values.mean(1).tolist()


def trace_plot(result: OptimizationResult) -> Tensor:
    """Mean best score and mean share of changed tokens, step by step: (3, H, W)."""
    changed = result.trace.changed.float().nanmean(1).tolist()
    steps = list(range(len(changed)))
    series = {"best score": (steps, _running_mean(result)), "changed tokens": (steps, changed)}
    return line_plot(series, "step", "mean over faces")


def report(result: OptimizationResult) -> str:
    """A line for each face."""
    lines = []
    pairs = zip(result.start_scores.tolist(), result.scores.tolist(), result.stop_reasons, strict=True)
    for number, (start, score, reason) in enumerate(pairs):
        lines.append(f"{number}: {start:.4f} -> {score:.4f} (ended by {reason})")
    return "\n".join(lines)


class RestoreToTarget(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="IQPBFR_RestoreToTarget",
            display_name="Restore to Target Quality (IQP)",
            category=f"{CATEGORY}/restore",
            description="Restore each face just as much as a wanted score needs: the highest fidelity, then the lowest quality, that reach it.",
            **search_aliases("keep identity", "least intervention"),
            inputs=[
                RESTORER.Input("restorer", tooltip="From Load Face Restorer."),
                io.Image.Input("image", tooltip="Aligned, square faces of any size."),
                METRIC.Input("metric", tooltip="What the score is measured with."),
                io.Float.Input(
                    "target_score",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="The wanted score. Score Image tells what your pictures have now.",
                ),
                adain_input(),
            ],
            outputs=[
                io.Image.Output(
                    "restored",
                    display_name="image",
                    tooltip="Restored faces at the model's resolution; where the target is out of reach, the best that was found.",
                ),
                io.Float.Output(
                    "fidelities",
                    display_name="fidelities",
                    is_output_list=True,
                    tooltip="A list: the fidelity each face kept.",
                ),
                io.Float.Output(
                    "scores", display_name="scores", is_output_list=True, tooltip="A list: the score each face reached."
                ),
                io.String.Output("text", display_name="text", tooltip="What was reached, face by face."),
            ],
        )

    @classmethod
    def execute(
        cls, restorer: LoadedRestorer, image: Tensor, metric: LoadedNetwork, target_score: float, adain: bool
    ) -> io.NodeOutput:
        model, faces = restorer.restorer, to_faces(image, restorer.restorer.config.resolution)
        with on_device(metric) as ready:
            results = over_faces(
                restorer,
                len(faces),
                lambda part: restore_to_target(
                    model,
                    faces[part].to(model.device),
                    ready,
                    target_score,
                    adain=adain,
                    progress=management.throw_exception_if_processing_interrupted,
                ),
            )
        fidelities, qualities, scores, reached = (
            torch.cat([getattr(result, name) for result in results]).tolist()
            for name in ("fidelity", "quality", "scores", "is_reached")
        )
        lines = [
            f"{number}: score {score:.4f} at fidelity {w:.2f}, quality {q:.2f}"
            + ("" if is_reached else ", target not reached")
            for number, (score, w, q, is_reached) in enumerate(zip(scores, fidelities, qualities, reached, strict=True))
        ]
        restored = to_comfy(torch.cat([result.images for result in results]))
        return io.NodeOutput(restored, fidelities, scores, "\n".join(lines))
