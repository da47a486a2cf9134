"""ONNX restorers as people have them: named, sized and scaled by the file, one face at a time."""

import sys

import pytest
import torch

from iqpbfr_core import load_restorer, restore_photo
from iqpbfr_core.checkpoint import save_network
from iqpbfr_core.errors import CheckpointError, InputError, MissingPackageError, WeightsNotFoundError
from iqpbfr_core.faces.face import Faces

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402

SIDE = 64
PICTURE = ["batch", 3, SIDE, SIDE]


def write(path, shape=PICTURE, kind=TensorProto.FLOAT, knob=None, more=(), total=0.0, node="Identity"):
    """A restorer that turns brightness round: darkest + brightest - picture, times its knob.

    total: darkest + brightest, which is the scale: 0 of [-1, 1], 1 of [0, 1], 255 of [0, 255].
    node: what becomes of the result.
    """
    inputs = [helper.make_tensor_value_info("face", kind, shape), *more]
    nodes = [
        helper.make_node("Cast", ["face"], ["seen"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["total", "seen"], ["turned"]),
        helper.make_node("Identity", ["turned"], ["scaled"]),
        helper.make_node(node, ["scaled"], ["result"]),
        helper.make_node("Cast", ["result"], ["restored"], to=kind),
    ]
    if knob is not None:
        inputs.append(helper.make_tensor_value_info("w", knob, [] if knob == TensorProto.FLOAT else [1]))
        nodes[2:3] = [
            helper.make_node("Cast", ["w"], ["weight"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["turned", "weight"], ["scaled"]),
        ]
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [1], [total]) for name in ("total", "logits")]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("restored", kind, shape),
    ]
    graph = helper.make_graph(nodes, "restorer", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("shape", [PICTURE, [1, 3, SIDE, SIDE]], ids=["any batch", "batch 1"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
@torch.no_grad()
def test_size_batch_and_kind_of_numbers_are_the_files(tmp_path, faces, shape, kind):
    restorer = load_restorer(write(tmp_path / "GPEN.onnx", shape, kind), dtype=torch.bfloat16)
    assert restorer.config.resolution == SIDE
    assert (restorer.supports.codes, restorer.supports.fidelity) == (False, False)
    restored = restorer.restore(faces)
    torch.testing.assert_close(restored, 1 - faces, atol=2e-3, rtol=0)
    assert torch.equal(restored[1:2], restorer.restore(faces[1:2]))


@pytest.mark.parametrize(("total", "kind"), [(0.0, 1), (1.0, 1), (255.0, 1), (255.0, TensorProto.UINT8)])
@torch.no_grad()
def test_scale_is_found_by_what_comes_out(tmp_path, faces, total, kind):
    restorer = load_restorer(write(tmp_path / "model.onnx", total=total, kind=kind))
    torch.testing.assert_close(restorer.restore(faces), 1 - faces, atol=0.003 if kind != 1 else 1e-5, rtol=0)


@torch.no_grad()
def test_a_number_beside_the_picture_is_the_fidelity(tmp_path, faces):
    for knob in (TensorProto.FLOAT, TensorProto.DOUBLE):
        restorer = load_restorer(write(tmp_path / "codeformer.onnx", [1, 3, SIDE, SIDE], knob=knob))
        assert restorer.supports.fidelity
        each = restorer.restore(faces, fidelity=torch.tensor([0.0, 0.5, 1.0]))
        torch.testing.assert_close(each[0], torch.full_like(each[0], 0.5), atol=1e-5, rtol=0)
        torch.testing.assert_close(each[2], 1 - faces[2], atol=1e-5, rtol=0)


@torch.no_grad()
def test_it_restores_photos_and_has_no_codes(tmp_path):
    restorer = load_restorer(write(tmp_path / "model.onnx"))
    photo = torch.rand(1, 3, 80, 80)
    landmarks = torch.tensor([[[30.0, 35.0], [50.0, 35.0], [40.0, 45.0], [32.0, 55.0], [48.0, 55.0]]])
    boxes, score, frame = torch.tensor([[20.0, 20.0, 60.0, 70.0]]), torch.ones(1), torch.zeros(1, dtype=torch.long)
    face = Faces(boxes, landmarks, score, frame, (80, 80), 1)
    assert restore_photo(photo, restorer, faces=face).mask.max() > 0
    with pytest.raises(InputError, match="onnx has no codes"):
        restorer.lookup(restorer.encode(torch.rand(1, 3, SIDE, SIDE)))
    with pytest.raises(CheckpointError, match="cannot be converted"):
        save_network(restorer.network, tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"more": [helper.make_tensor_value_info("second", TensorProto.FLOAT, PICTURE)]},
            "takes .*second.*one picture",
        ),
        ({"shape": [1, SIDE, SIDE]}, "takes .*one picture"),
        ({"shape": [1, 1, SIDE, SIDE]}, "takes .*one picture"),
        ({"shape": [1, 3, SIDE, 2 * SIDE]}, "128x64"),
    ],
)
def test_other_inputs_are_refused_in_one_line(tmp_path, change, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        load_restorer(write(tmp_path / "model.onnx", **change))
    assert str(tmp_path / "model.onnx") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_files_and_numbers_are_refused_in_one_line(tmp_path, faces, monkeypatch):
    path = tmp_path / "model.onnx"
    with pytest.raises(WeightsNotFoundError, match="no such"):
        load_restorer(path)
    for content in (b"", b"<html>not found</html>", write(path).read_bytes()[:100]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.onnx: (not a readable ONNX|takes|gives)") as caught:
            load_restorer(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="NaN"):
        load_restorer(write(path, node="Log")).restore(faces)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match="pip install"):
        load_restorer(path)
