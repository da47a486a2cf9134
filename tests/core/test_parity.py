"""Our one implementation gives the numbers of the authors' code (tests/references/README.md)."""

import formula
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from iqpbfr_core import load_restorer
from iqpbfr_core.checkpoint import build_network, infer_config

pytestmark = pytest.mark.slow

# (manifest, references, case, arguments of lookup, arguments of decode)
CASES = [
    ("codeformer", "codeformer", "codeformer/w0_adain", {}, {"fidelity": 0.0}),
    ("codeformer", "codeformer", "codeformer/w0.7_adain", {}, {"fidelity": 0.7}),
    ("iqpir_dual_add", "iqpir", "iqpir/add_s0.9_a0.8_w0_adain", {"quality": 0.9, "alpha": 0.8}, {}),
    ("iqpir_dual_noscore", "iqpir", "iqpir/noscore_a0.8_w0_adain", {"alpha": 0.8}, {}),
    ("iqpir_single_add", "iqpir", "iqpir/single_add_s0.75_w0_adain", {"quality": 0.75}, {}),
    ("restoreformer", "restoreformer", "a", {}, {}),
    ("restoreformer_plus_plus", "restoreformer_plus_plus", "a", {}, {}),
    ("daefr", "daefr", "a", {}, {}),
    ("vqfr_v1", "vqfr_v1", "a", {}, {}),
    ("vqfr_v2", "vqfr_v2", "a_f1", {}, {"fidelity": 1.0}),
]


@pytest.fixture(scope="module")
def restorer(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    torch.save({"params_ema": formula.filled_weights(request.param)}, path)
    return load_restorer(path)


@pytest.mark.parametrize(
    ("restorer", "reference", "case", "lookup", "decode"),
    CASES,
    indirect=["restorer"],
    ids=[c[0] + ":" + c[2] for c in CASES],
)
@torch.no_grad()
def test_equals_the_authors_numbers(restorer, reference, case, lookup, decode):
    expected = np.load(formula.REFERENCES / f"ref_{reference}.npz")
    features = restorer.encode((formula.filled_image() + 1) / 2)
    codes = restorer.lookup(features, **lookup)
    agree = codes.indices[0].numpy() == expected[f"{case}/indices"]
    assert (~agree.reshape(256, -1).all(1)).sum() <= 2, "more than two tokens differ"
    if f"{case}/logits_head" in expected:
        np.testing.assert_allclose(codes.logits[0, :, :8], expected[f"{case}/logits_head"], atol=1e-3)
        z = restorer.network.condition(features.z, codes.quality)
        np.testing.assert_allclose(z[0, :8], expected[f"{case}/lq_feat_head"], atol=1e-3)
    if f"{case}/distance_head" in expected:
        np.testing.assert_allclose(-codes.logits[0, :, :8], expected[f"{case}/distance_head"], atol=1e-3)
    if agree.all():
        image = restorer.decode_raw(codes, features, **decode)
        np.testing.assert_allclose(F.avg_pool2d(image, 8)[0], expected[f"{case}/image_64"], atol=2e-3)


@torch.no_grad()
def test_gfpgan_equals_the_authors_numbers_and_repeats_itself(tmp_path):
    torch.save({"params_ema": formula.filled_weights("gfpgan_clean")}, tmp_path / "gfpgan.pth")
    restorer = load_restorer(tmp_path / "gfpgan.pth")
    face = (formula.filled_image() + 1) / 2
    features = restorer.encode(face)
    image = restorer.generate(features.z, features, None, 0.0, None)
    expected = np.load(formula.REFERENCES / "ref_gfpgan_clean.npz")
    np.testing.assert_allclose(F.avg_pool2d(image, 8)[0], expected["a/image_64"], atol=2e-3)
    assert torch.equal(restorer.restore(face), (image.float() + 1).div(2).clamp(0, 1))


@torch.no_grad()
def test_vqfr_without_fidelity_is_its_texture(tmp_path):
    torch.save({"params": formula.filled_weights("vqfr_v2")}, tmp_path / "vqfr.pth")
    restorer = load_restorer(tmp_path / "vqfr.pth")
    features = restorer.encode((formula.filled_image() + 1) / 2)
    image = restorer.decode_raw(restorer.lookup(features), features, restorer.supports.default_fidelity)
    expected = np.load(formula.REFERENCES / "ref_vqfr_v2.npz")["a_f1/texture_64"]
    np.testing.assert_allclose(F.avg_pool2d(image, 8)[0], expected, atol=2e-3)


@torch.no_grad()
def test_defaults_are_the_authors_command(tmp_path):
    """`-w 0 -score 0.9` for IQPIR, whatever else could be asked."""
    torch.save({"params_ema": formula.filled_weights("iqpir_dual_add")}, tmp_path / "iqpir.pth")
    restorer = load_restorer(tmp_path / "iqpir.pth")
    expected = np.load(formula.REFERENCES / "ref_iqpir.npz")["iqpir/add_s0.9_a0.8_w0_adain/image_64"]
    face = (formula.filled_image() + 1) / 2
    features = restorer.encode(face)
    codes = restorer.lookup(features)
    image = restorer.decode_raw(codes, features, restorer.supports.default_fidelity)
    np.testing.assert_allclose(F.avg_pool2d(image, 8)[0], expected, atol=2e-3)
    assert torch.equal(restorer.restore(face), restorer.decode(codes, features))


@pytest.mark.parametrize("name", ["codeformer_colorization", "codeformer_inpainting"])
def test_variants_are_recognised(name):
    """From their tensors' names and shapes alone, which are all that a network of that config has."""
    weights = {key: torch.empty(shape, device="meta") for key, shape in formula.shapes(name).items()}
    config = infer_config(weights)
    assert config.family == "codeformer"
    assert config.fusion == (32, 64, 128)
    assert config.num_codes == (512 if name.endswith("inpainting") else 1024)
    with torch.device("meta"):
        network = build_network(config)
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in weights.items()
    }
