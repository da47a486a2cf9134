"""Metrics: one direction, one range, gradients, and words when weights are missing."""

import io
import os
import re
import sys

import pytest
import scipy.io
import torch

from iqpbfr_core import load_metric
from iqpbfr_core.errors import MetricError, MissingPackageError, WeightsNotFoundError
from iqpbfr_core.quality import list_metrics


def test_builtin_scores_are_in_range_batch_equals_singles_any_size(faces):
    metric = load_metric()
    for size in (64, 100, 256, 300):
        images = torch.nn.functional.interpolate(faces, size=(size, size + 7))
        scores = metric(images)
        assert scores.shape == (3,)
        assert ((scores >= 0) & (scores <= 1)).all()
        torch.testing.assert_close(scores, torch.cat([metric(i[None]) for i in images]), atol=1e-5, rtol=0)


def test_gradients_reach_the_image(faces):
    for name in ("builtin", "piqe"):
        images = torch.nn.functional.interpolate(faces, size=128).requires_grad_(name == "builtin")
        score = load_metric(name)(images)
        assert score.shape == (3,)
        if name == "builtin":
            score.sum().backward()
            assert images.grad.abs().sum() > 0


def test_direction_is_best_is_one(faces):
    images = torch.nn.functional.interpolate(faces, size=256)
    metric = load_metric("piqe")
    assert metric.lower_better
    torch.testing.assert_close(metric(images), (1 - metric.raw(images) / 100).clamp(0, 1))


def test_half_precision_images_are_accepted(faces):
    for name in ("builtin", "piqe"):
        images = torch.ones(1, 3, 128, 128, dtype=torch.float16) * 0.5
        images[..., ::2] = 1.0
        assert load_metric(name)(images).dtype == torch.float32


def test_unknown_metric_is_refused_with_suggestions():
    with pytest.raises(MetricError, match="topiq_nr"):
        load_metric("topiq")


@pytest.mark.parametrize("name", ["musiq", "topiq_nr-face", "topiq_nr", "niqe", "nima"])
def test_missing_weights_name_file_folder_and_address(name, tmp_path):
    with pytest.raises(WeightsNotFoundError) as caught:
        load_metric(name, folder=tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "https://" in message
    assert any(suffix in message for suffix in (".pth", ".mat"))
    assert not list(tmp_path.iterdir())


def test_wrong_weights_are_not_taken(tmp_path):
    torch.save({"params": {"x": torch.ones(1)}}, tmp_path / "topiq_nr_cgfiqa_res50-0a8b8e4f.pth")
    with pytest.raises(MetricError, match="topiq_nr_cgfiqa_res50"):
        load_metric("topiq_nr-face", folder=tmp_path)


@pytest.mark.parametrize("name", ["cnniqa", "paq2piq", "topiq_nr-face"])
def test_weights_are_those_of_the_file_and_nothing_else_is_touched(name, tmp_path, monkeypatch, faces):
    """Constructors that would fetch ImageNet weights, or a face detector, do not; nor is anything left replaced."""
    import timm
    import torchvision

    def refuse(*_):
        raise AssertionError("the network is touched")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    kept = {}
    with monkeypatch.context() as patched:  # the network as it is constructed, and its file made of it
        patched.setattr(
            "iqpbfr_core.pyiqa_metrics._Weights.into", lambda self, network, url, *_, **__: kept.update({url: network})
        )
        load_metric(name, folder=tmp_path)
    ((url, network),) = kept.items()
    torch.save({"params": network.state_dict()}, tmp_path / url.rsplit("/", 1)[1])
    environment, functions = dict(os.environ), (timm.create_model, torchvision.models.resnet18, torch.load)
    metric = load_metric(name, folder=tmp_path)
    assert (dict(os.environ), (timm.create_model, torchvision.models.resnet18, torch.load)) == (environment, functions)
    loaded = metric.network.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in network.state_dict().items())
    assert metric(torch.nn.functional.interpolate(faces[:1], size=224)).shape == (1,)


def test_metric_without_pyiqa_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    monkeypatch.delitem(sys.modules, "pyiqa.default_model_configs", raising=False)
    with pytest.raises(MissingPackageError, match=re.escape(f'{sys.executable} -m pip install "pyiqa')):
        load_metric("niqe")


def test_list_has_the_metrics_people_know():
    assert {"builtin", "niqe", "musiq", "topiq_nr-face", "clipiqa", "maniqa"} <= set(list_metrics())


def _mat(**values):
    content = io.BytesIO()
    scipy.io.savemat(content, values)
    return content.getvalue()


def _pth(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "file", "contents"),
    [
        (
            "niqe",
            "niqe_modelparameters.mat",
            (b"", b"<html>not found</html>", bytes(500), bytes(range(256)) * 9, _mat(x=1), _mat(mu_prisparam="text")),
        ),
        *(
            (name, file, (b"", b"<html>", _pth([1]), _pth({"params": 5}), _pth({"params": {"a": torch.zeros(1)}})))
            for name, file in (
                ("musiq", "musiq_koniq_ckpt-e95806b9.pth"),
                ("topiq_nr-face", "topiq_nr_cgfiqa_res50-0a8b8e4f.pth"),
                ("brisque", "brisque_svm_weights.pth"),
            )
        ),
    ],
)
def test_broken_weights_of_a_metric_are_named(name, file, contents, tmp_path):
    for content in contents:
        (tmp_path / file).write_bytes(content)
        with pytest.raises(MetricError, match=file.replace(".", r"\.")) as caught:
            load_metric(name, folder=tmp_path)
        assert "\n" not in str(caught.value)
