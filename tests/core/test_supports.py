"""A model is asked only for what it was trained for, and what gives way is said."""

import dataclasses

import pytest
import torch
from networks import make_network

from iqpbfr_core.config import RestorerConfig
from iqpbfr_core.errors import CheckpointError, InputError
from iqpbfr_core.models.code_restorer import CodeRestorer
from iqpbfr_core.restorer import Restorer
from iqpbfr_core.training.presets import TINY

PUBLISHED = dataclasses.replace(
    TINY, family="iqpir", stem=1, head=1, fusion=(32, 64), local_levels=0, tells_features=False
)


def iqpir(trained=True, **change):
    network = make_network(dataclasses.replace(PUBLISHED, conditioning="add", score_bins=(10,), **change))
    for fusion in network.fuse_convs_dict.values():
        torch.nn.init.constant_(fusion.encode_enc.norm1.weight, 0.9 if trained else 1.0)
    return Restorer(network)


def test_quality_means_the_whole_range_of_a_model_of_ours(faces):
    wide, narrow = (Restorer(make_network(dataclasses.replace(TINY, score_range=r))) for r in ((0, 1), (0.2, 0.8)))
    f = wide.encode(faces)
    for quality, score in ((0.0, 0.2), (0.5, 0.5), (1.0, 0.8)):
        codes = narrow.lookup(f, quality)
        torch.testing.assert_close(codes.quality, torch.full((3,), score))
        torch.testing.assert_close(codes.logits, wide.lookup(f, score).logits)
    assert narrow.supports.quality == (0.0, 1.0)
    assert narrow.supports.scores == ((0.2, 0.8),)


def test_range_travels_in_the_config():
    config = dataclasses.replace(TINY, score_range=(0.1, 0.9), fidelity=0.3)
    assert RestorerConfig.from_json(config.to_json()) == config
    with pytest.raises(CheckpointError, match="score_range"):
        dataclasses.replace(TINY, score_range=(0.9, 0.1))


def test_a_score_table_is_asked_for_trained_bins_only(faces):
    restorer = iqpir()
    f = restorer.encode(faces)
    for quality, score in ((1.0, 0.9), (0.95, 0.9), (0.75, 0.75), (0.1, 0.5)):
        assert torch.equal(restorer.lookup(f, quality).quality, torch.full((3,), score))
    assert restorer.settings(0.75).notes == ()
    (note,) = restorer.settings(0.95).notes
    assert "score 0.9" in note


def test_several_metrics_take_a_score_each_and_one_number_is_each_ones_best(faces):
    network = make_network(dataclasses.replace(PUBLISHED, conditioning="add_multi", score_bins=(20, 20)))
    restorer = Restorer(network)
    f = restorer.encode(faces)
    assert restorer.lookup(f).quality.tolist() == [pytest.approx([0.66, 0.91])] * 3
    each = torch.tensor([[0.3, 0.8]]).expand(3, -1)
    assert torch.equal(restorer.lookup(f, each).quality, each)
    one, two = (restorer.lookup(f, torch.tensor([[a, b]]).expand(3, -1)).logits for a, b in ((0.3, 0.8), (0.8, 0.3)))
    assert (one - two).abs().max() > 1e-4
    with pytest.raises(InputError, match=r"\(3, 2\)"):
        restorer.lookup(f, torch.rand(3, 3))


def test_untrained_fidelity_is_refused_and_its_settings_give_way(faces):
    trained, untrained = iqpir(True), iqpir(False)
    assert trained.supports.fidelity
    assert not untrained.supports.fidelity
    f = untrained.encode(faces)
    codes = untrained.lookup(f)
    for fidelity in (0.5, torch.tensor([0.0, 0.5, 0.0])):
        with pytest.raises(InputError, match="never trained"):
            untrained.decode(codes, f, fidelity)
    assert torch.equal(untrained.restore(faces), untrained.decode(codes, f, 0.0, True))
    settings = untrained.settings(0.9, fidelity=0.5)
    assert settings.fidelity == 0
    assert "never trained" in settings.notes[0]
    assert trained.settings(0.9, fidelity=0.5).notes == ()


@pytest.mark.parametrize(
    ("num_codes", "task", "fidelity", "adain"), [(1024, "colorize", 0.0, True), (512, "inpaint", 1.0, False)]
)
def test_the_task_is_found_from_the_tensors_and_sets_the_defaults(num_codes, task, fidelity, adain):
    network = CodeRestorer(
        RestorerConfig(widths=(8,) * 6, num_codes=num_codes, fusion=(32, 64, 128), lookup_dim=64, lookup_layers=1)
    )
    for fusion in network.fuse_convs_dict.values():
        torch.nn.init.constant_(fusion.encode_enc.norm1.weight, 0.9)
    supports = network.supports
    assert (supports.task, supports.default_fidelity, supports.adain) == (task, fidelity, adain)
    assert network.supports.quality is None
    assert Restorer(network).settings(0.5).notes
    settings = Restorer(network).settings(fidelity=0.5, adain=True)
    assert (settings.fidelity, settings.adain) == (fidelity, adain)
    assert f"trained to {task} at fidelity {fidelity:g}" in settings.notes[0]
