"""Encode, look up, decode: contracts that hold for every model of the family."""

import dataclasses

import pytest
import torch
from networks import make_network

from iqpbfr_core import load_restorer
from iqpbfr_core.errors import InputError
from iqpbfr_core.layers.adain import adain
from iqpbfr_core.restorer import Restorer
from iqpbfr_core.training.presets import TINY

CONFIGS = {
    "adaln": TINY,
    "none_single": dataclasses.replace(TINY, conditioning="none", num_hq_codes=0),
    "none_dual": dataclasses.replace(TINY, conditioning="none"),
    "add": dataclasses.replace(TINY, conditioning="add", score_bins=(10,)),
    "add_multi": dataclasses.replace(TINY, conditioning="add_multi", score_bins=(20, 20)),
    "no_stem": dataclasses.replace(TINY, stem=1, head=1, fusion=(32, 64)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_output_is_an_image_whatever_the_configuration(name, faces):
    restorer = Restorer(make_network(CONFIGS[name]))
    restored = restorer.restore(faces, quality=0.7, fidelity=0.5)
    assert restored.shape == faces.shape
    assert restored.dtype == torch.float32
    assert restored.min() >= 0
    assert restored.max() <= 1
    books = (2,) if restorer.config.num_books == 2 else ()
    codes = restorer.lookup(restorer.encode(faces), 0.7)
    assert codes.indices.shape == (3, restorer.config.num_tokens, *books)
    assert codes.logits.shape == (3, restorer.config.num_tokens, restorer.config.num_codes, *books)


@torch.no_grad()
def test_batch_equals_singles(tiny, faces):
    quality = torch.tensor([0.1, 0.5, 1.0])
    batch = tiny.restore(faces, quality, 0.5)
    singles = torch.cat([tiny.restore(f[None], q.item(), 0.5) for f, q in zip(faces, quality, strict=True)])
    torch.testing.assert_close(batch, singles, atol=1e-4, rtol=0)


@torch.no_grad()
def test_sampling_is_seeded_and_the_same_in_a_batch(tiny, faces):
    features = tiny.encode(faces)
    first, again, other = (tiny.lookup(features, temperature=1.0, seed=s).indices for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    single = tiny.lookup(tiny.encode(faces[1:2]), temperature=1.0, seed=3).indices
    assert (single[0] == first[1]).float().mean() > 0.99


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_stays_close(tiny, faces, dtype):
    features = tiny.encode(faces)
    codes = tiny.lookup(features, 1.0)
    full = tiny.decode(codes, features, 0.5)
    tiny.to(dtype=dtype)
    half = tiny.decode(codes, tiny.encode(faces), 0.5)
    assert half.dtype == torch.float32
    assert (half - full).abs().mean() < 2 / 255


@torch.no_grad()
def test_quality_and_guidance_change_the_logits_and_guidance_one_is_plain(tiny, faces):
    features = tiny.encode(faces)
    low, high = tiny.lookup(features, 0.1).logits, tiny.lookup(features, 1.0).logits
    assert (low - high).abs().max() > 1e-4
    null = tiny.lookup(features, None).logits
    guided = tiny.lookup(features, 1.0, guidance=2.0).logits
    torch.testing.assert_close(guided, null + 2 * (high - null), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_alpha_zero_leaves_the_common_codes_alone(tiny, faces):
    features = tiny.encode(faces)
    codes = tiny.lookup(features, alpha=0.0)
    other_hq = codes.with_indices(torch.stack([codes.indices[..., 0].flip(1), codes.indices[..., 1]], -1))
    assert torch.equal(tiny.decode(codes, features), tiny.decode(other_hq, features))


@torch.no_grad()
def test_one_hot_mixture_is_the_code_itself(tiny, faces):
    features = tiny.encode(faces)
    codes = tiny.lookup(features)
    one_hot = torch.nn.functional.one_hot(codes.indices, tiny.config.num_codes).float().transpose(2, 3)
    expected = tiny.network.quantise(codes.indices, codes.alpha, features.z)
    torch.testing.assert_close(tiny.network.mix(one_hot, codes.alpha), expected)


@torch.no_grad()
def test_fidelity_zero_skips_fusion_and_per_face_fidelity_is_per_face(tiny, faces):
    features = tiny.encode(faces)
    codes = tiny.lookup(features)
    by_tensor = tiny.decode(codes, features, torch.tensor([0.0, 0.5, 1.0]))
    for index, weight in enumerate((0.0, 0.5, 1.0)):
        torch.testing.assert_close(by_tensor[index], tiny.decode(codes, features, weight)[index], atol=1e-5, rtol=0)
    assert (by_tensor[1] - tiny.decode(codes, features, 0.0)[1]).abs().max() > 1e-4


def test_adain_takes_over_mean_and_spread():
    content, style = torch.randn(2, 4, 8, 8), 3 * torch.randn(2, 4, 8, 8) + 1
    result = adain(content, style)
    torch.testing.assert_close(result.mean((2, 3)), style.mean((2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(result.std((2, 3)), style.std((2, 3)), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[:, :1], "shape"),
        (lambda x: x[0], "shape"),
        (lambda x: x[:0], "empty"),
        (lambda x: (x * 255).byte(), "uint8"),
        (lambda x: x * 255, r"\[0, 1\]"),
        (lambda x: x * float("nan"), "NaN"),
        (lambda x: x[:, :, :48], "64x64"),
        (lambda x: x[:, :, :4, :4], "at least 16"),
        (lambda x: x.numpy(), "Tensor"),
    ],
)
def test_bad_images_are_refused(tiny, faces, change, words):
    with pytest.raises(InputError, match=words):
        tiny.encode(change(faces))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"quality": 1.5}, "quality"),
        ({"quality": float("nan")}, "quality"),
        ({"quality": torch.tensor([0.5])}, "quality"),
        ({"temperature": -1.0}, "temperature"),
        ({"alpha": -0.1}, "alpha"),
        ({"guidance": float("inf")}, "guidance"),
        ({"quality": None, "guidance": 2.0}, "guidance"),
    ],
)
def test_bad_lookup_parameters_are_refused(tiny, faces, arguments, words):
    with pytest.raises(InputError, match=words):
        tiny.lookup(tiny.encode(faces), **arguments)


def test_foreign_codes_and_bad_fidelity_are_refused(tiny, faces):
    features = tiny.encode(faces)
    codes = tiny.lookup(features)
    with pytest.raises(InputError, match="another model or another batch"):
        tiny.decode(dataclasses.replace(codes, indices=codes.indices[:2]), features)
    with pytest.raises(InputError, match="does not exist"):
        tiny.decode(codes.with_indices(codes.indices + 1000), features)
    with pytest.raises(InputError, match="fidelity"):
        tiny.decode(codes, features, fidelity=1.2)


def test_the_input_is_not_changed(tiny, faces):
    before = faces.clone()
    tiny.restore(faces)
    assert torch.equal(before, faces)


def test_builtin_model_restores_and_is_fast_to_describe():
    restorer = load_restorer("builtin")
    assert restorer.config.family == "iqpbfr"
    assert restorer.config.metric == "builtin"
    restored = restorer.restore(torch.rand(1, 3, restorer.config.resolution, restorer.config.resolution))
    assert 0 <= restored.min() <= restored.max() <= 1
