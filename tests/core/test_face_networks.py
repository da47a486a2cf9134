"""RetinaFace and ParseNet are the authors' networks, number by number (tests/references/README.md)."""

import formula
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from iqpbfr_core.errors import CheckpointError
from iqpbfr_core.faces.anchors import anchor_boxes, decode, encode
from iqpbfr_core.faces.detection import load_detector
from iqpbfr_core.faces.masks import FaceParser, load_parser
from iqpbfr_core.layers.batch_norm import BatchNorm2d
from iqpbfr_core.models.parsenet import ParseNet
from iqpbfr_core.models.retinaface import RetinaFace, RetinaFaceConfig, to_retinaface

MOBILE = RetinaFaceConfig("mobile0.25", slope=0.1)


def write(name, path, prefix="", **extra):
    torch.save({prefix + key: value for key, value in {**formula.filled_weights(name), **extra}.items()}, path)
    return path


@pytest.fixture(scope="module")
def mobile_file(tmp_path_factory):
    return write("retinaface_mobile0.25", tmp_path_factory.mktemp("weights") / "mobile.pth", prefix="module.")


def random_mobile(config=MOBILE):
    torch.manual_seed(0)
    return RetinaFace(config).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinaface_mobile0.25", "retinaface_resnet50"])
@torch.no_grad()
def test_retinaface_equals_the_authors_numbers(name, tmp_path):
    detector = load_detector(write(name, tmp_path / "weights.pth"))
    expected = np.load(formula.REFERENCES / f"ref_{name}.npz")
    boxes, logits, landmarks = detector.network(to_retinaface((formula.filled_image() + 1) / 2))
    anchors = anchor_boxes(detector.config, 512, 512)
    assert len(anchors) == int(expected["a/n_anchors"])
    decoded = decode(anchors, boxes[0], landmarks[0])
    ours = {
        "bbox": boxes[0],
        "cls_logit": logits[0],
        "prob": logits[0].softmax(1),
        "landmark": landmarks[0],
        "box_decoded": decoded[0] / 512,
        "landmark_decoded": decoded[1].flatten(1) / 512,
    }
    rows = torch.arange(64) * len(anchors) // 64
    for what, values in ours.items():
        np.testing.assert_allclose(values[rows], expected[f"a/{what}_rows"], atol=1e-3, err_msg=what)
        np.testing.assert_allclose(values.flatten()[:64], expected[f"a/{what}_first64"], atol=1e-3, err_msg=what)


@pytest.mark.slow
@torch.no_grad()
def test_parsenet_equals_the_authors_numbers(tmp_path):
    parser = load_parser(write("parsenet", tmp_path / "weights.pth"))
    expected = np.load(formula.REFERENCES / "ref_parsenet.npz")
    logits, picture = parser.network(formula.filled_image())
    np.testing.assert_allclose(F.avg_pool2d(logits, 8)[0], expected["a/parse_64"], atol=5e-3)
    np.testing.assert_allclose(F.avg_pool2d(picture, 8)[0], expected["a/img_64"], atol=5e-3)
    labels = logits.argmax(1)[0, ::8, ::8]
    assert (labels.numpy() == expected["a/labels_s8"]).mean() >= 0.995


def test_anchors_take_back_what_they_were_given():
    anchors = anchor_boxes(MOBILE, 70, 90)
    torch.manual_seed(0)
    corner = torch.rand(len(anchors), 2) * 60
    boxes = torch.cat((corner, corner + 5 + 20 * torch.rand(len(anchors), 2)), 1)
    landmarks = torch.rand(len(anchors), 5, 2) * 90
    decoded = decode(anchors, *encode(anchors, boxes, landmarks))
    torch.testing.assert_close(decoded, (boxes, landmarks), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (75, 101), (33, 200)])
@torch.no_grad()
def test_there_is_one_output_per_anchor_at_any_size(size):
    outputs = random_mobile()(torch.rand(2, 3, *size))
    count = len(anchor_boxes(MOBILE, *size))
    assert [tuple(output.shape) for output in outputs] == [(2, count, 4), (2, count, 2), (2, count, 10)]


def test_batch_counts_may_be_there_or_not(tmp_path, mobile_file):
    """Files keep 47 integers that do not matter; without them a file is as good, in both networks and prefixes."""
    counts = {f"fpn.{part}.1.num_batches_tracked": torch.tensor(7) for part in ("output1", "merge1")}
    with_counts = load_detector(write("retinaface_mobile0.25", tmp_path / "counts.pth", **counts))
    picture = torch.rand(1, 3, 64, 64)
    for one, other in zip(with_counts.network(picture), load_detector(mobile_file).network(picture), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda weights: weights.pop("fpn.merge1.0.weight"), "1 missing (fpn.merge1.0.weight)"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "1 unexpected (extra)"),
        (lambda weights: weights.update({"fpn.merge1.0.weight": torch.zeros(1)}), "of another shape"),
    ],
)
def test_a_file_that_does_not_fit_says_where(tmp_path, change, what):
    weights = formula.filled_weights("retinaface_mobile0.25")
    change(weights)
    torch.save(weights, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError) as caught:
        load_detector(tmp_path / "broken.pth")
    assert what in str(caught.value)
    assert "broken.pth" in str(caught.value)


def test_one_kind_of_file_is_not_taken_for_the_other(tmp_path, mobile_file):
    with pytest.raises(CheckpointError, match="ParseNet"):
        load_parser(mobile_file)
    with pytest.raises(CheckpointError, match="RetinaFace"):
        load_detector(write("parsenet", tmp_path / "parsenet.pth"))


def test_the_config_travels_as_text_and_nonsense_is_refused():
    config = RetinaFaceConfig("mobile0.25", slope=0.0, anchors=((8, 16), (32, 64), (128, 256)))
    assert RetinaFaceConfig.from_json(config.to_json()) == config
    for text in (
        "{}",
        "no json",
        config.to_json().replace("mobile0.25", "vgg"),
        '{"backbone": "resnet50", "slope": []}',
    ):
        with pytest.raises(CheckpointError, match="config"):
            RetinaFaceConfig.from_json(text)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_stays_close(dtype, mobile_file):
    picture = to_retinaface((formula.filled_image(side=128) + 1) / 2)
    full, half = load_detector(mobile_file), load_detector(mobile_file, dtype=dtype)
    for expected, got in zip(full.network(picture), half.network(picture.to(dtype)), strict=True):
        assert got.dtype == dtype
        assert (got.float() - expected).abs().mean() < 0.05 * expected.std()


@torch.no_grad()
def test_a_batch_equals_its_single_pictures(mobile_file):
    network = load_detector(mobile_file).network
    pictures = torch.rand(3, 3, 96, 64, generator=torch.Generator().manual_seed(0)) * 255
    together = network(pictures)
    for number in range(3):
        for batch, single in zip(together, network(pictures[number : number + 1]), strict=True):
            torch.testing.assert_close(batch[number : number + 1], single, atol=1e-4, rtol=1e-4)


def test_batch_norm_equals_torchs_and_follows_its_input():
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(6), torch.nn.BatchNorm2d(6)
    x = torch.randn(4, 6, 5, 5) * 3 + 1
    for norm in (ours, theirs):
        torch.nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(1))
        norm(x)  # learns its statistics
        norm.eval()
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours(x.half()).dtype == torch.half


def test_a_large_variance_survives_half_precision():
    norm = BatchNorm2d(2).eval()
    norm.running_var.fill_(1e5)  # a published RetinaFace has 89549
    x = torch.full((1, 2, 4, 4), 300.0)
    expected = norm(x)
    torch.testing.assert_close(norm.half()(x.half()).float(), expected, rtol=1e-2, atol=0)
    assert norm.running_var.max() == 1e5


@pytest.mark.slow
def test_a_parsed_batch_equals_its_single_crops():
    torch.manual_seed(0)
    crops = torch.rand(2, 3, 64, 64)
    network = ParseNet()
    together = FaceParser(network)(crops)
    torch.testing.assert_close(together[1:], FaceParser(network)(crops[1:]), atol=1e-3, rtol=0)
    assert together.shape == (2, 1, 64, 64)
