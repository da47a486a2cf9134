"""Code maps as material, and the pictures made of them."""

import pytest
import torch

from iqpbfr_core.codes import blend_codes, confidence, load_codes, mask_tokens, region_tokens, save_codes, token_side
from iqpbfr_core.errors import InputError
from iqpbfr_core.figure import colour_map, overlay
from iqpbfr_core.heatmap import STEPS, quality_map
from iqpbfr_core.quality import BUILTIN, METRICS, list_metrics, load_metric
from iqpbfr_core.restorer import Codes, Features


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
