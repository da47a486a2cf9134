"""Any supported file is recognised, everything else is refused with words that help."""

import dataclasses
import pickle

import pytest
import torch
from networks import make_network
from safetensors.torch import load_file, save_file

from iqpbfr_core.checkpoint import infer_config, load_network, save_network
from iqpbfr_core.errors import CheckpointError, WeightsNotFoundError
from iqpbfr_core.models.restoreformer import RestoreFormer
from iqpbfr_core.training.presets import TINY

ODD = {
    "tiny": TINY,
    "wide": dataclasses.replace(TINY, widths=(24, 32, 96), code_dim=48, lookup_mlp_dim=80, lookup_layers=3),
    "deep": dataclasses.replace(TINY, encoder_depths=(3, 1, 2), generator_depths=(1, 2, 3), fusion=(32,)),
    "picture": dataclasses.replace(
        TINY, head=1, widths=(16, 16, 32, 64), generator_depths=(1, 1, 1, 1), fusion=(16, 64), local_levels=2
    ),
    "stem": dataclasses.replace(TINY, stem=4, encoder_depths=(1, 2), fusion=()),
    "codeformer": dataclasses.replace(
        TINY,
        family="codeformer",
        stem=1,
        head=1,
        conditioning="none",
        num_hq_codes=0,
        alpha=0.8,
        metric="",
        fusion=(32, 64),
        local_levels=0,
        tells_features=False,
    ),
    "iqpir": dataclasses.replace(
        TINY,
        family="iqpir",
        stem=1,
        head=1,
        conditioning="add_multi",
        score_bins=(20, 10),
        alpha=0.8,
        residual_hq=False,
        metric="",
        fusion=(32, 64),
        local_levels=0,
        tells_features=False,
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_every_hyperparameter_is_inferred_from_shapes(name):
    config = ODD[name]
    if config.head == 1:
        config = dataclasses.replace(config, encoder_depths=(1, 1, 1))
    inferred = infer_config(make_network(config).state_dict())
    assert inferred == dataclasses.replace(config, metric="")


def test_restoreformer_is_inferred():
    config = dataclasses.replace(
        TINY, family="restoreformer", stem=1, head=1, widths=(32, 32, 64), encoder_depths=(2, 2, 2),
        generator_depths=(3, 3, 3), num_hq_codes=0, conditioning="none", lookup_layers=0, fusion=(), attention_heads=8,
        lookup_dim=512, lookup_mlp_dim=1024, alpha=0.8, metric="", local_levels=0, tells_features=False,
    )  # fmt: skip
    assert infer_config(RestoreFormer(config).state_dict()) == config


@pytest.mark.parametrize("wrap", ["params_ema", "state_dict", "prefix", "flat"])
def test_containers_are_unwrapped(tmp_path, wrap, faces):
    weights = make_network().state_dict()
    content = {
        "params_ema": {"params_ema": weights},
        "state_dict": {"state_dict": weights, "epoch": 3},
        "prefix": {"state_dict": {f"vqvae.{k}": v for k, v in weights.items()} | {"loss.x": torch.ones(1)}},
        "flat": weights,
    }[wrap]
    torch.save(content, tmp_path / "file.ckpt")
    loaded = load_network(tmp_path / "file.ckpt")
    assert all(torch.equal(v, weights[k]) for k, v in loaded.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_round_trip_keeps_config_and_weights(tmp_path, dtype):
    network = make_network()
    save_network(network, tmp_path / "a.safetensors", dtype)
    loaded = load_network(tmp_path / "a.safetensors")
    assert loaded.config == network.config
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.to(dtype))


class _Evil:
    def __reduce__(self):
        return (print, ("code from a weight file was run",))


def _bad_file(kind, path):
    good = make_network().state_dict()
    if kind == "truncated":
        torch.save(good, path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "text":
        path.write_text("<html>not found</html>")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"params_ema": _Evil()}))
    elif kind == "evil":
        torch.save({"params_ema": _Evil()}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "no tensors":
        torch.save({"a": 1}, path)
    elif kind == "foreign":
        torch.save({"conv.weight": torch.zeros(3, 3)}, path)
    elif kind == "missing":
        torch.save({k: v for k, v in good.items() if "ft_layers.1.norm1" not in k}, path)
    elif kind == "unexpected":
        torch.save({**good, "extra.weight": torch.zeros(1)}, path)
    elif kind == "shape":
        torch.save({**good, "feat_emb.weight": torch.zeros(1, 1)}, path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("truncated", "truncated or not"),
        ("text", "saved web page"),
        ("empty", "truncated or not|not opened"),
        ("pickle", "not opened|not a torch file"),
        ("evil", "not opened"),
        ("list", "not a dictionary"),
        ("no tensors", "no tensors"),
        ("foreign", "Tried: codeformer"),
        ("missing", "2 missing .*ft_layers.1.norm1"),
        ("unexpected", "1 unexpected .*extra.weight"),
        ("shape", "another shape .*feat_emb.weight"),
    ],
)
def test_bad_files_are_refused_with_words(tmp_path, capsys, kind, words):
    path = tmp_path / "file.pth"
    _bad_file(kind, path)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "code from a weight file was run" not in capsys.readouterr().out


def test_bad_safetensors_and_lying_config(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00garbage")
    with pytest.raises(CheckpointError, match="safetensors"):
        load_network(tmp_path / "a.safetensors")
    save_network(make_network(), tmp_path / "b.safetensors")
    weights = load_file(tmp_path / "b.safetensors")
    save_file(weights, tmp_path / "b.safetensors", {"config": dataclasses.replace(TINY, code_dim=64).to_json()})
    with pytest.raises(CheckpointError, match="another shape"):
        load_network(tmp_path / "b.safetensors")
    save_file(weights, tmp_path / "b.safetensors", {"config": '{"nonsense": 1}'})
    with pytest.raises(CheckpointError, match="config"):
        load_network(tmp_path / "b.safetensors")


def test_missing_file(tmp_path):
    with pytest.raises(WeightsNotFoundError, match="no such weight file"):
        load_network(tmp_path / "codeformer.pth")
