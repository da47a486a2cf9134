"""Files made to hang, fill the memory or break a loader are refused quickly, cheaply and in one line."""

import dataclasses
import io
import json
import pickle
import resource
import struct
import time
import zipfile

import pytest
import torch
from networks import make_network
from safetensors.torch import load_file, save, save_file

from iqpbfr_core import load_restorer
from iqpbfr_core.checkpoint import load_network, save_network
from iqpbfr_core.errors import CheckpointError, IQPError
from iqpbfr_core.models.severity import SeverityNet
from iqpbfr_core.quality import load_severity
from iqpbfr_core.tensor_file import MAX_DESCRIPTION
from iqpbfr_core.training.presets import TINY


def _weights():
    return make_network().state_dict()


def _indexed(name):
    return lambda path: torch.save({**_weights(), name: torch.zeros(1)}, path)


def _compressed(path):
    """An archive whose parts are zeros, compressed a thousand times."""
    torch.save({"a": torch.zeros(2**22)}, path)
    stored = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in stored.infolist():
            archive.writestr(part.filename, stored.read(part))


def _archive_of(pickled, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")


def _numbered(path):
    """A Lightning-like file of which one object says that 134 million others come before it."""
    archive = io.BytesIO()
    torch.save({"state_dict": _weights(), "callbacks": {"a": Callback()}}, archive)
    parts = zipfile.ZipFile(archive)
    with zipfile.ZipFile(path, "w") as changed:
        for part in parts.infolist():
            content = parts.read(part)
            if part.filename.endswith("data.pkl"):  # the name is wrong, too, so that it is refused in any case
                content = content.replace(b"q\x01", b"r" + struct.pack("<I", 2**27), 1)
                content = content.replace(b"feat_emb.bias", b"feat_emb.bios", 1)
            changed.writestr(part.filename, content)


class Callback:
    """What a checkpoint of Lightning has beside its tensors."""


_EMPTY_DICTS = b"\x80\x02(" + b"}" * (MAX_DESCRIPTION + 1) + b"l."


def _old_format(path):
    """torch's format before archives: magic number, protocol, system, content, keys."""
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    path.write_bytes(b"".join(parts) + _EMPTY_DICTS + pickle.dumps([], 2))


def _many_tensors(path):
    one = torch.zeros(1)
    torch.save({f"t{i}": one for i in range(60_000)}, path)


def _many_safetensors(path):
    header = {f"t{i}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i in range(100_000)}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(400_000))


def _with_config(text):
    return lambda path: save_file({k: v.contiguous() for k, v in _weights().items()}, path, {"config": text})


def _stretched(path):
    """Tensors that repeat one number: shapes that fit each other, of a network no file of this size holds."""
    weights = _weights()
    side = 2**16
    for layer in range(TINY.lookup_layers):
        weights[f"ft_layers.{layer}.linear1.weight"] = torch.zeros(1, 1).expand(side, TINY.lookup_dim)
        weights[f"ft_layers.{layer}.linear1.bias"] = torch.zeros(1).expand(side)
        weights[f"ft_layers.{layer}.linear2.weight"] = torch.zeros(1, 1).expand(TINY.lookup_dim, side)
    torch.save(weights, path)


HOSTILE = {
    "layer number.pth": _indexed("ft_layers.999999999.linear1.weight"),
    "block number.pth": _indexed("encoder.blocks.99999999.conv1.weight"),
    "huge number.pth": _indexed(f"generator.blocks.{'9' * 6000}.conv1.weight"),
    "fusion.pth": _indexed("fuse_convs_dict.99999999.scale.0.weight"),
    "compressed.pth": _compressed,
    "dicts.pth": lambda path: _archive_of(_EMPTY_DICTS, path),
    "old dicts.pth": _old_format,
    "numbered.ckpt": _numbered,
    "many.ckpt": _many_tensors,
    "stretched.pth": _stretched,
    "many.safetensors": _many_safetensors,
    "header.safetensors": lambda path: path.write_bytes(struct.pack("<Q", 2**60) + b"{}"),
    "layers.safetensors": _with_config(json.dumps({**dataclasses.asdict(TINY), "lookup_layers": 10_000_000})),
    "depths.safetensors": _with_config(json.dumps({**dataclasses.asdict(TINY), "encoder_depths": [65536] * 3})),
    "levels.safetensors": _with_config(json.dumps({**dataclasses.asdict(TINY), "widths": [16] * 20_000})),
    "deep.safetensors": _with_config("[" * 30_000),
    "long.safetensors": _with_config('{"family": "' + "a" * 2_000_000 + '"}'),
}


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_costs_little_to_refuse(name, tmp_path):
    path = tmp_path / name
    HOSTILE[name](path)
    before, start = _peak(), time.process_time()
    with pytest.raises(CheckpointError) as caught:
        load_network(path)
    assert time.process_time() - start < 5
    assert _peak() - before < 3 * path.stat().st_size + 300e6
    assert len(str(caught.value)) < 1200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["feat_emb.bias", "quantize.embedding.weight"])
def test_weights_that_are_not_numbers_are_refused(value, dtype, name, tmp_path):
    weights = {key: tensor.to(dtype) for key, tensor in _weights().items()}
    weights[name].flatten()[-1] = value
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"1 of \d+ tensors hold NaN or infinity \({name}\)"):
        load_network(tmp_path / "a.pth")


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_kind_are_refused(dtype, tmp_path):
    weights = _weights()
    weights["feat_emb.bias"] = weights["feat_emb.bias"].to(dtype)
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"floating point numbers; feat_emb\.bias is"):
        load_network(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "make",
    [lambda t: t.to_sparse(), lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), lambda t: t.to("meta")],
)
def test_weights_that_are_not_dense_are_refused(make, tmp_path):
    weights = _weights()
    weights["feat_emb.weight"] = make(weights["feat_emb.weight"])
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(CheckpointError):
        load_network(tmp_path / "a.pth")


WRONG = (0, 1, 3, 7, 10**7, -1, 2.5, "x", "", None, True, [], [0], [1, 2, 3], [-1], [[1]], {}, 1e999)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TINY)])
def test_a_config_that_lies_is_refused_or_harmless(field, tmp_path, faces):
    path = tmp_path / "a.safetensors"
    save_network(make_network(), path)
    weights = load_file(path)
    for value in WRONG:
        save_file(weights, path, {"config": json.dumps({**dataclasses.asdict(TINY), field: value})})
        said = _refusal(lambda: load_restorer(path).restore(faces[:1], 0.5, 0.5).isfinite().all())
        assert "\n" not in said
        assert len(said) < 1200


def _refusal(work):
    """What is said against it, "" where it works."""
    try:
        assert work()
    except IQPError as error:
        return str(error)
    return ""


def test_any_shape_of_any_tensor_is_refused_in_one_line(tmp_path):
    good = _weights()
    generator = torch.Generator().manual_seed(0)
    shapes = [(), (0,), (1,), (7,), (3, 3), (2, 2, 2), (64, 64), (1, 1, 1, 1), (0, 3), (5, 4, 3, 2, 1)]
    names = sorted(good)
    for _ in range(60):
        name = names[int(torch.randint(len(names), (1,), generator=generator))]
        shape = shapes[int(torch.randint(len(shapes), (1,), generator=generator))]
        if shape == tuple(good[name].shape):
            continue
        (tmp_path / "a.safetensors").write_bytes(save({**good, name: torch.zeros(shape)}))
        with pytest.raises(CheckpointError) as caught:
            load_network(tmp_path / "a.safetensors")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["text", "restorer", "nan"])
def test_a_metric_is_read_as_carefully(content, tmp_path):
    path = tmp_path / "metric.safetensors"
    weights = {key: value.clone() for key, value in SeverityNet().state_dict().items()}
    weights["head.0.bias"][3] = float("nan")
    content = {"text": b"# Read me", "restorer": save(_weights()), "nan": save(weights)}[content]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"metric\.safetensors: "):
        load_severity(path)
