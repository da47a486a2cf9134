"""Every family of restorers, at reduced width: known by its tensors, and the same Restorer as the others."""

import pytest
import torch
from networks import FAMILIES, make_network

from iqpbfr_core.checkpoint import infer_config, load_network, save_network
from iqpbfr_core.errors import CheckpointError, InputError
from iqpbfr_core.optimize import optimize_codes
from iqpbfr_core.restorer import Restorer

WITHOUT_CODES = ("gfpgan",)
every = pytest.mark.parametrize("name", FAMILIES)
with_codes = pytest.mark.parametrize("name", [name for name in FAMILIES if name not in WITHOUT_CODES])


@every
def test_config_is_found_from_the_tensors(name):
    assert infer_config(make_network(FAMILIES[name]).state_dict()) == FAMILIES[name]


@every
def test_files_of_every_container_and_a_conversion_give_the_same_face(name, tmp_path, faces):
    network = make_network(FAMILIES[name])
    restored = Restorer(network).restore(faces[:1])
    weights = network.state_dict()
    lightning = {f"vqvae.{key}": value for key, value in weights.items()} if name != "daefr" else weights
    contents = [
        weights,
        {"params_ema": weights},
        {"state_dict": lightning | {"loss.discriminator.weight": torch.ones(1)}},
    ]
    for content in contents:
        torch.save(content, tmp_path / "file.ckpt")
        assert torch.equal(Restorer(load_network(tmp_path / "file.ckpt")).restore(faces[:1]), restored)
    save_network(network, tmp_path / "file.safetensors")
    again = Restorer(load_network(tmp_path / "file.safetensors")).restore(faces[:1])
    torch.testing.assert_close(again, restored, atol=1e-5, rtol=0)


@every
@torch.no_grad()
def test_a_batch_equals_its_singles_and_repeats_itself(name, faces):
    restorer = Restorer(make_network(FAMILIES[name]))
    batch = restorer.restore(faces)
    assert batch.shape == faces.shape
    assert torch.equal(batch, restorer.restore(faces))
    torch.testing.assert_close(batch, torch.cat([restorer.restore(face) for face in faces.split(1)]), atol=1e-4, rtol=0)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_stays_close(name, faces, dtype):
    restorer = Restorer(make_network(FAMILIES[name]))
    features = restorer.encode(faces)
    if not restorer.supports.codes:
        full, half = restorer.restore(faces), restorer.to(dtype=dtype).restore(faces)
    else:
        codes = restorer.lookup(features)
        full = restorer.decode(codes, features)
        restorer.to(dtype=dtype)
        half = restorer.decode(codes, restorer.encode(faces))
    assert half.dtype == torch.float32
    assert (half - full).abs().mean() < 4 / 255


@every
def test_a_key_too_few_or_too_many_and_a_wrong_shape_are_named(name, tmp_path):
    weights = make_network(FAMILIES[name]).state_dict()
    key = next(k for k in reversed(weights) if k.endswith("bias"))
    changes = {
        f"1 missing .*{key}": {k: v for k, v in weights.items() if k != key},
        "1 unexpected .*more.weight": {**weights, "more.weight": torch.ones(1)},
        f"1 of another shape .*{key}": {**weights, key: torch.ones(3, 3, 3)},
    }
    for words, changed in changes.items():
        torch.save(changed, tmp_path / "file.pth")
        with pytest.raises(CheckpointError, match=words):
            load_network(tmp_path / "file.pth")


@with_codes
def test_codes_can_be_looked_up_drawn_and_optimised(name, faces):
    restorer = Restorer(make_network(FAMILIES[name]))
    with torch.no_grad():
        features = restorer.encode(faces)
        codes = restorer.lookup(features)
        drawn = restorer.lookup(features, temperature=5.0)
    assert codes.logits.shape == (3, 256, 32)
    assert not torch.equal(codes.indices, drawn.indices)
    bright = lambda images: images.mean((1, 2, 3))  # noqa: E731
    result = optimize_codes(restorer, codes, features, bright, steps=2)
    assert (result.scores >= result.start_scores).all()


@pytest.mark.parametrize("name", WITHOUT_CODES)
def test_without_codes_the_lookup_says_what_to_do_instead(name, faces):
    restorer = Restorer(make_network(FAMILIES[name]))
    assert not restorer.supports.codes
    with pytest.raises(InputError, match=f"{name} has no codes .*Restore Photo"):
        restorer.lookup(restorer.encode(faces))


@torch.no_grad()
def test_vqfr_has_a_fidelity_of_its_own(faces):
    restorer = Restorer(make_network(FAMILIES["vqfr_v2"]))
    assert restorer.supports.fidelity
    assert torch.equal(restorer.restore(faces), restorer.restore(faces, fidelity=0.0))
    each = restorer.restore(faces, fidelity=torch.tensor([0.0, 0.5, 1.0]))
    for index, fidelity in enumerate((0.0, 0.5, 1.0)):
        torch.testing.assert_close(each[index], restorer.restore(faces, fidelity=fidelity)[index], atol=1e-5, rtol=0)
    assert (each[2] - restorer.restore(faces)[2]).abs().max() > 1e-4
