"""iqpbfr train metric | autoencoder | lookup | fusion | adapter | detector"""

import logging
from functools import partial
from pathlib import Path

import torch
import typer
from accelerate import PartialState

from ..checkpoint import load_network
from ..errors import TrainingError
from ..faces.detection import load_detector
from ..models.code_restorer import CodeRestorer
from ..models.severity import SeverityNet
from ..quality import BUILTIN, BuiltinMetric, Metric, load_metric, load_severity
from ..restorer import load_restorer
from ..training.data import list_images
from ..training.loop import Precision, RunConfig, Stage, run
from ..training.perceptual import PerceptualLoss
from ..training.presets import PRESETS, Preset
from ..training.scores import ScoreList, read_scores, told_by
from .console import MAX_SEED, output

app = typer.Typer(
    help="Train the built-in metric, the three stages of a restorer, score adapters, the face detector.",
    add_completion=False,
    no_args_is_help=True,
)

DATA = typer.Option(
    ..., help="Folder of aligned faces, or of shards of them (`iqpbfr pack`), or with sub-folders train and test."
)
MORE_DATA = typer.Option(None, help="Another such folder: every third sample is taken from it.")
OUT = typer.Option(..., help="Run folder: log, samples, checkpoint to resume from, result. An existing run is resumed.")
_run_option = partial(typer.Option, rich_help_panel="Run")  # what every training has
STEPS = _run_option(2000, min=1)
BATCH = _run_option(8, min=1)
SEED = _run_option(0, min=0, max=MAX_SEED)
WORKERS = _run_option(0, min=0, help="Processes that read and augment faces.")
PRECISION = _run_option("bf16", help="fp16 is for CUDA only.")
SAVE_EVERY = _run_option(200, min=1, help="Steps between checkpoints.")
SCORES = typer.Option(
    None,
    help="What `score FACES --csv` printed: every face is its own target, and its score there is what is learnt.",
)
METRIC = typer.Option(BUILTIN, help="'builtin', or a file written by `train metric`: the score the model learns.")


def _metric(metric: str) -> SeverityNet:
    if metric != BUILTIN:
        return load_severity(metric)
    builtin = load_metric(BUILTIN)
    assert isinstance(builtin, BuiltinMetric)
    return builtin.network


def _any_metric(metric: str, folder: Path | None) -> Metric:
    """A metric by name, or the built-in kind from a file."""
    if metric.endswith(".safetensors"):
        return BuiltinMetric(load_severity(metric))
    return load_metric(metric, folder=folder)


def _network(path: Path | str) -> CodeRestorer:
    network = load_network(path)
    if not isinstance(network, CodeRestorer):
        raise TrainingError(f"{path} is a {network.config.family}: only code-prediction models can be trained.")
    return network.float()  # a file of half precision is trained on in full


def _scores(file: Path | None, metric: str) -> ScoreList | None:
    if file is not None and metric != BUILTIN:
        raise TrainingError(
            f"--scores lists the scores to learn, so --metric {metric} would not be asked: give one of them."
        )
    return None if file is None else read_scores(file)


def _run(stage: Stage, config: RunConfig) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    result = run(stage, config)
    if PartialState().is_main_process:
        output.print(str(result))


@app.command()
def metric(
    data: Path = DATA,
    out: Path = OUT,
    steps: int = _run_option(700, min=1),
    batch_size: int = BATCH,
    seed: int = SEED,
    workers: int = WORKERS,
    precision: Precision = PRECISION,
    save_every: int = SAVE_EVERY,
    more_data: Path | None = MORE_DATA,
    generator: Path | None = typer.Option(None, help="A restorer whose mistakes are shown: a weight file."),
    start_from: Path | None = typer.Option(None, help="An earlier result, to be trained on."),
) -> None:
    """Learn how good a face is."""
    from ..training.severity import SeverityStage

    stage = SeverityStage(
        seed,
        None if generator is None else _network(generator),
        None if start_from is None else load_severity(start_from),
    )
    _run(stage, RunConfig(data, out, steps, batch_size, 256, seed, save_every, workers, precision, more_data))


@app.command()
def autoencoder(
    data: Path = DATA,
    out: Path = OUT,
    preset: Preset = typer.Option("small", help="Architecture; not used with --init."),
    init: Path | None = typer.Option(None, help="Train this model on, instead of a new one."),
    borrow: str | None = typer.Option(
        None,
        help="'builtin' or a file: the new model starts from its weights wherever they fit, with codes of its own.",
    ),
    encoder_only: bool = typer.Option(
        False,
        "--encoder-only",
        help="With --init: find the encoder of stage 1 again for a model of a later stage; the rest stays.",
    ),
    more_data: Path | None = MORE_DATA,
    metric: str = METRIC,
    scores: Path | None = SCORES,
    steps: int = STEPS,
    batch_size: int = BATCH,
    seed: int = SEED,
    workers: int = WORKERS,
    precision: Precision = PRECISION,
    save_every: int = SAVE_EVERY,
) -> None:
    """Stage 1: codebooks, encoder and generator."""
    from ..training.autoencoder import AutoencoderStage
    from ..training.autoencoder import borrow as borrow_weights

    if init is not None and borrow is not None:
        raise TrainingError("--init trains a model on, --borrow starts a new one: give one of them.")
    listed = _scores(scores, metric)
    config = PRESETS[preset] if listed is None else told_by(PRESETS[preset], listed)
    torch.manual_seed(seed)
    network = CodeRestorer(config) if init is None else _network(init)
    if borrow is not None:
        borrow_weights(network, _network(borrow))
    is_trained, new_codes = (init or borrow) is not None, borrow is not None
    stage = AutoencoderStage(
        network, _metric(metric), PerceptualLoss(), steps, seed, is_trained, new_codes, encoder_only, listed
    )
    side = network.config.resolution
    _run(stage, RunConfig(data, out, steps, batch_size, side, seed, save_every, workers, precision, more_data))


@app.command()
def lookup(
    data: Path = DATA,
    out: Path = OUT,
    init: Path = typer.Option(..., help="Result of `train autoencoder`."),
    start_from: Path | None = typer.Option(None, help="An earlier result of `train lookup`, to be trained on."),
    more_data: Path | None = MORE_DATA,
    metric: str = METRIC,
    scores: Path | None = SCORES,
    quality_weight: float = typer.Option(
        0.0, min=0, help="Also score decoded faces with --metric: weight of their distance from the asked score."
    ),
    steps: int = STEPS,
    batch_size: int = BATCH,
    seed: int = SEED,
    workers: int = WORKERS,
    precision: Precision = PRECISION,
    save_every: int = SAVE_EVERY,
) -> None:
    """Stage 2: predict the codes of a face of a wanted quality."""
    from ..training.lookup import LookupStage

    network = _network(init)
    earlier = None if start_from is None else _network(start_from)
    stage = LookupStage(network, _metric(metric), seed, quality_weight, earlier, _scores(scores, metric))
    side = network.config.resolution
    _run(stage, RunConfig(data, out, steps, batch_size, side, seed, save_every, workers, precision, more_data))


@app.command()
def fusion(
    data: Path = DATA,
    out: Path = OUT,
    init: Path = typer.Option(..., help="Result of `train lookup`."),
    more_data: Path | None = MORE_DATA,
    metric: str = METRIC,
    scores: Path | None = SCORES,
    fidelity_only: bool = typer.Option(
        False, "--fidelity-only", help="Train the fusion modules alone: what fidelity 0 gives stays as it is."
    ),
    steps: int = STEPS,
    batch_size: int = BATCH,
    seed: int = SEED,
    workers: int = WORKERS,
    precision: Precision = PRECISION,
    save_every: int = SAVE_EVERY,
) -> None:
    """Stage 3: fidelity, and a generator used to the codes it will get."""
    from ..training.fusion import FusionStage

    network = _network(init)
    stage = FusionStage(
        network, _metric(metric), PerceptualLoss(), seed, fidelity_only=fidelity_only, scores=_scores(scores, metric)
    )
    side = network.config.resolution
    _run(stage, RunConfig(data, out, steps, batch_size, side, seed, save_every, workers, precision, more_data))


@app.command()
def adapter(
    data: Path = DATA,
    out: Path = OUT,
    base: Path = typer.Option(..., help="Restorer that was trained without a score; it is not changed."),
    teacher: Path | None = typer.Option(
        None, help="The autoencoder it was built on, which knows the codes of good faces; DAEFR has its own inside."
    ),
    metric: list[str] = typer.Option(
        [BUILTIN], help="Score it is told: 'builtin', a file of `train metric`, or a pyiqa metric; several: their mean."
    ),
    weights: Path | None = typer.Option(None, help="Folder with the metrics' weights; default: pyiqa's own cache."),
    quality_weight: float = typer.Option(
        1.0, min=0, help="Weight of the distance of decoded faces' score from the one that was asked for."
    ),
    more_data: Path | None = MORE_DATA,
    steps: int = STEPS,
    batch_size: int = BATCH,
    seed: int = SEED,
    workers: int = WORKERS,
    precision: Precision = PRECISION,
    save_every: int = SAVE_EVERY,
) -> None:
    """A score for a restorer that was trained without one: a score adapter."""
    from ..training.adapter import AdapterStage
    from ..training.teacher import find_teacher

    restorer = load_restorer(base)
    known = find_teacher(restorer, None if teacher is None else load_restorer(teacher))
    recipe = f"{steps} steps of {batch_size} faces, {'with' if known else 'without'} a teacher, quality weight {quality_weight:g}, seed {seed}"
    stage = AdapterStage(restorer, [_any_metric(m, weights) for m in metric], known, seed, quality_weight, recipe)
    side = restorer.config.resolution
    _run(stage, RunConfig(data, out, steps, batch_size, side, seed, save_every, workers, precision, more_data))


@app.command()
def detector(
    data: list[Path] = typer.Option(
        ..., help="Folder of aligned faces with an index.csv of their landmarks; may be given several times."
    ),
    backgrounds: Path | None = typer.Option(None, help="Folder of pictures without a face."),
    out: Path = OUT,
    init: Path | None = typer.Option(
        None, help="RetinaFace weights to be trained on for small faces, instead of a new network."
    ),
    teacher: Path | None = typer.Option(
        None,
        help="RetinaFace weights that find the faces of uncropped pictures an index.csv names (`whole`), and whose answers "
        "--steady learns; default there: those of --init.",
    ),
    widths: tuple[float, float] = typer.Option((8, 256), help="Least and greatest width of faces, in pixels."),
    rate: float = typer.Option(1e-3, min=0, help="Peak learning rate."),
    caution: float = typer.Option(0.0, min=0, help="Score learnt faces lower in the exported file, as a logit."),
    keep: float = typer.Option(
        0.0, min=0, max=1, help="With --steady: share of the teacher's weights in the exported file."
    ),
    steady: bool = typer.Option(
        False,
        "--steady",
        help="With --init: learn to say of degraded pictures what the teacher says of them clean, where it is right.",
    ),
    steps: int = STEPS,
    batch_size: int = _run_option(16, min=1),
    seed: int = SEED,
    precision: Precision = PRECISION,
    save_every: int = SAVE_EVERY,
) -> None:
    """Learn to find faces and their landmarks, in scenes composed of portraits."""
    from ..training.detector import DetectorStage
    from ..training.scenes import SceneRecipe, Scenes, read_portraits, read_whole_portraits
    from ..training.steady import SIZE, Pictures, SteadyStage

    if steady and init is None:
        raise TrainingError("--steady trains a network on: name its file by --init.")
    if keep and not steady:
        raise TrainingError(
            "--keep is a share of the teacher's weights, and only --steady has a teacher to learn from: add it."
        )
    portraits = [portrait for folder in data for portrait in read_portraits(folder, "train")]
    whole, finder = [], None if teacher is None else load_detector(teacher)
    if finder is not None:
        for number, folder in enumerate(data):
            whole += read_whole_portraits(folder, "train", finder, out / f"whole_portraits_{number}.json")
    backdrops = [] if backgrounds is None else list_images(backgrounds, "train")
    network = None if init is None else load_detector(init).network
    stage: Stage
    if steady and network is not None:
        recipe = SceneRecipe(SIZE, widths, wrecked=0)
        pictures = Pictures(Scenes(portraits, backdrops, recipe, seed), whole)
        stage = SteadyStage(pictures, network, None if finder is None else finder.network, rate, caution, keep, seed)
    else:
        scenes = Scenes(portraits + whole, backdrops, SceneRecipe(widths=widths), seed)
        stage = DetectorStage(scenes, network, rate, caution, seed)
    # The loop's own faces are not looked at, so they are read as small as can be.
    _run(stage, RunConfig(data[0], out, steps, batch_size, 16, seed, save_every, 0, precision))
