"""Code maps as material, and the pictures made of them."""

from dataclasses import replace

import pytest
import torch
from networks import make_network
from safetensors.torch import save_file

from iqpbfr_core.codes import blend_codes, confidence, load_codes, mask_tokens, region_tokens, save_codes, token_side
from iqpbfr_core.errors import InputError
from iqpbfr_core.figure import colour_map, overlay
from iqpbfr_core.heatmap import STEPS, quality_map
from iqpbfr_core.quality import BUILTIN, METRICS, list_metrics, load_metric
from iqpbfr_core.restorer import Codes, Features, Restorer
from iqpbfr_core.tensor_file import read_safetensors
from iqpbfr_core.training.presets import TINY


@pytest.fixture
def two_maps(tiny, faces):
    features = tiny.encode(faces)
    return tiny.lookup(features, 0.1, temperature=1.0, seed=1), tiny.lookup(features, 1.0, temperature=1.0, seed=2)


@pytest.mark.parametrize("books", ["both", "hq", "common"])
def test_blend_takes_exactly_the_tokens_and_books_asked_for(two_maps, books):
    base, other = two_maps
    tokens = torch.zeros(1, base.indices.shape[1], dtype=torch.bool)
    tokens[0, 5] = True
    blended = blend_codes(base, other, tokens, books)
    taken = {"both": [0, 1], "hq": [0], "common": [1]}[books]
    kept = [book for book in (0, 1) if book not in taken]
    assert torch.equal(blended.indices[:, 5, taken], other.indices[:, 5, taken])
    assert torch.equal(blended.indices[:, 5, kept], base.indices[:, 5, kept])
    assert torch.equal(blended.indices[:, 6:], base.indices[:, 6:])


def test_blend_refuses_what_does_not_fit(two_maps):
    base, other = two_maps
    tokens = torch.ones(1, base.indices.shape[1], dtype=torch.bool)
    with pytest.raises(InputError, match="cannot be blended"):
        blend_codes(base, other[:1], tokens)
    with pytest.raises(InputError, match="unknown choice"):
        blend_codes(base, other, tokens, "all")
    with pytest.raises(InputError, match="tokens must have shape"):
        blend_codes(base, other, tokens[:, :3])


def test_single_codebook_has_no_hq_codes():
    codes = Codes(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, 3), 1.0, None)
    with pytest.raises(InputError, match="single codebook"):
        blend_codes(codes, codes, torch.ones(1, 4, dtype=torch.bool), "hq")
    assert torch.allclose(confidence(codes), torch.full((1, 4, 1), 1 / 3))


def test_regions_and_masks():
    side = 16
    assert region_tokens("everything", side).all()
    eyes, mouth = (region_tokens(name, side).reshape(side, side) for name in ("eyes", "mouth"))
    assert eyes.nonzero()[:, 0].max() < mouth.nonzero()[:, 0].min()
    half = torch.zeros(1, 37, 90)
    half[:, :, 45:] = 1
    tokens = mask_tokens(half, side).reshape(side, side)
    assert tokens[:, 8:].all()
    assert not tokens[:, :8].any()
    with pytest.raises(InputError, match="unknown region"):
        region_tokens("chin", side)
    with pytest.raises(InputError, match="mask"):
        mask_tokens(torch.zeros(0, 4, 4), side)
    for value in (NAN, -0.5, 255):
        with pytest.raises(InputError, match="mask"):
            mask_tokens(torch.full((1, 4, 4), float(value)), side)


def test_codes_survive_a_file(tiny, faces, tmp_path):
    features = tiny.encode(faces)
    codes = tiny.lookup(features, 0.7)
    path = tmp_path / "face.codes.safetensors"
    save_codes(codes, tiny, path)
    loaded = load_codes(path, tiny)
    assert torch.equal(loaded.indices, codes.indices)
    assert torch.allclose(confidence(loaded), confidence(codes), atol=2e-3)
    assert torch.equal(tiny.decode(loaded, features), tiny.decode(codes, features))


def test_codes_of_another_model_are_refused(tiny, faces, tmp_path):
    path = tmp_path / "face.safetensors"
    save_codes(tiny.lookup(tiny.encode(faces)), tiny, path)
    tiny.network.quantize.embedding.weight.data.neg_()
    del tiny.__dict__["codebook_id"]
    with pytest.raises(InputError, match="belong to codebook"):
        load_codes(path, tiny)


@pytest.mark.parametrize("content", [b"", b"not a file of codes", None])
def test_broken_files_of_codes_are_refused(tiny, tmp_path, content):
    path = tmp_path / "broken.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.safetensors"):
        load_codes(path, tiny)


def _other(tiny):
    """A model of the same shape with other codes."""
    network = make_network()
    network.quantize.embedding.weight.data.neg_()
    return Restorer(network)


def test_codes_are_decoded_and_blended_only_with_their_own_codebook(tiny, faces):
    features = tiny.encode(faces)
    codes, foreign = tiny.lookup(features), _other(tiny).lookup(features)
    tokens = torch.ones(1, codes.indices.shape[1], dtype=torch.bool)
    for use in (
        lambda: tiny.decode(foreign, features),
        lambda: tiny.decode(Codes.cat([foreign[:1], foreign[1:]]).to("cpu"), features),
        lambda: tiny.decode(foreign.with_indices(foreign.indices), features),
        lambda: blend_codes(codes, foreign, tokens),
    ):
        with pytest.raises(InputError, match="codebook"):
            use()
    unknown = replace(foreign, codebook_id="")
    assert tiny.decode(unknown, features).isfinite().all()


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "change",
    [
        *(("alpha", value) for value in ("NaN", "Infinity", "-Infinity", "-0.1", "1e30", "[]", "x", "", "null")),
        *(("format", value) for value in ("", "iqpbfr codes 2", "gguf")),
        ("codebook_id", ""),
        *(("quality", torch.full((3,), value)) for value in (NAN, INF, -0.5, 1.5)),
        *(("quality", torch.zeros(shape)) for shape in ((), (2,), (0,))),
        ("quality", torch.zeros(3, dtype=torch.int32)),
        *(("confidence", torch.full((3, 64, 2), value)) for value in (NAN, INF, -1, 2)),
        *(("confidence", torch.zeros(shape)) for shape in ((3, 64), (3, 64, 1), (2, 64, 2), ())),
        *(("indices", torch.full((3, 64, 2), value, dtype=torch.int16)) for value in (-1, 32, 32767)),
        *(("indices", torch.zeros(3, 64, 2, dtype=kind)) for kind in (torch.float32, torch.int64, torch.bool)),
        *(("indices", torch.zeros(shape, dtype=torch.int16)) for shape in ((3, 64), (3, 63, 2), (0, 64, 2), (), (9,))),
    ],
    ids=lambda change: f"{change[0]}-{str(change[1])[:20]}",
)
def test_a_file_of_codes_that_makes_no_sense_is_refused(change, tiny, faces, tmp_path):
    path = tmp_path / "a.safetensors"
    save_codes(tiny.lookup(tiny.encode(faces), 0.5), tiny, path)
    tensors, metadata = read_safetensors(path)
    name, value = change
    (tensors if isinstance(value, torch.Tensor) else metadata)[name] = value
    save_file(tensors, path, metadata)
    with pytest.raises(InputError, match=r"a\.safetensors") as caught:
        load_codes(path, tiny)
    assert "\n" not in str(caught.value)


def test_large_codebooks_are_stored_right(tmp_path):
    config = replace(TINY, num_codes=40_000, num_hq_codes=0, conditioning="none", fusion=())
    restorer = Restorer(make_network(config))
    indices = torch.tensor([0, 32_767, 32_768, 39_999]).repeat(16)[None]
    logits = torch.zeros(1, 64, 40_000).scatter(2, indices[..., None], 20.0)
    save_codes(Codes(indices, logits, 1.0, None), restorer, tmp_path / "a.safetensors")
    assert torch.equal(load_codes(tmp_path / "a.safetensors", restorer).indices, indices)


@pytest.mark.parametrize("value", [NAN, INF])
def test_features_that_are_no_numbers_are_refused(value, tiny, faces):
    features = tiny.encode(faces)
    codes = tiny.lookup(features)
    features.z[0, 0, 0, 0] = value
    for use in (lambda: tiny.lookup(features), lambda: tiny.decode(codes, features)):
        with pytest.raises(InputError, match="float32"):
            use()


@pytest.mark.parametrize("alpha", [NAN, INF, -0.1, 1e6])
def test_alpha_is_a_weight(alpha, tiny, faces):
    features = tiny.encode(faces)
    for use in (
        lambda: tiny.lookup(features, alpha=alpha),
        lambda: tiny.decode(replace(tiny.lookup(features), alpha=alpha), features),
    ):
        with pytest.raises(InputError, match="alpha"):
            use()


def test_codebook_id_survives_half_precision(tiny, tiny_file):
    from iqpbfr_core.restorer import load_restorer

    assert load_restorer(tiny_file, dtype=torch.bfloat16).codebook_id == load_restorer(tiny_file).codebook_id


def test_parts_and_whole_are_the_same(tiny, faces):
    features = tiny.encode(faces)
    joined = Features.cat([features[:1], features[1:]])
    assert torch.equal(joined.z, features.z)
    assert all(torch.equal(joined.skips[side], skip) for side, skip in features.skips.items())
    codes = tiny.lookup(features, torch.tensor([0.1, 0.5, 0.9]))
    parts = Codes.cat([codes[:2], codes[2:]])
    assert torch.equal(parts.indices, codes.indices)
    assert torch.equal(parts.quality, codes.quality)
    assert len(parts) == 3
    assert token_side(parts) == tiny.config.token_side


def test_colours_rise_in_lightness():
    colours = colour_map(torch.linspace(0, 1, 32).reshape(1, 1, 32))
    assert (colours.mean(1).diff() > 0).all()


def test_heat_map_is_dark_where_the_blur_is():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 256, 256, generator=generator) * 0.2 + 0.4
    image[..., :128] = 0.5

    class Contrast:
        def __call__(self, images):
            return images.std((1, 2, 3))

    scores = quality_map(image, Contrast())  # type: ignore[arg-type]
    assert scores.shape == (1, STEPS, STEPS)
    assert (scores[..., 0] < scores[..., -1]).all()
    painted = overlay(image, scores / scores.max())
    assert painted.shape == image.shape
    assert painted[..., :64].mean() < painted[..., -64:].mean()


def test_metrics_offered_exist():
    assert METRICS[0] == BUILTIN
    assert set(METRICS) <= set(list_metrics())
    assert quality_map(torch.rand(2, 3, 40, 64), load_metric()).shape == (2, STEPS, STEPS)
