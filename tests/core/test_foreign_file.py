"""Checkpoints with more than tensors in them: the tensors are read, and nothing else in the file does anything."""

import os
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from networks import FAMILIES, make_network

from iqpbfr_core.checkpoint import load_network
from iqpbfr_core.errors import CheckpointError


class ModelCheckpoint:
    """What Lightning keeps per callback: a class as a key, and an object with a state of its own."""

    def __init__(self, path):
        self.path = path

    def __setstate__(self, state):
        self.path.touch()
        raise AssertionError("an object of the file was restored")


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Hyperparameters(dict):
    """A dictionary of a foreign class."""


def lightning(weights, path):
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "1.0.8",
        "callbacks": {ModelCheckpoint: {"best": torch.ones(3), "object": ModelCheckpoint(path)}},
        "hyper_parameters": Hyperparameters(learning_rate=1e-4, data=Payload(path)),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": [{"payload": Payload(path)}]}],
        "state_dict": OrderedDict(weights),
    }


@pytest.mark.parametrize("name", ["restoreformer_plus_plus", "daefr"])
def test_lightning_files_load_and_nothing_in_them_runs(name, tmp_path):
    weights = make_network(FAMILIES[name]).state_dict()
    stored = dict(weights) if name == "daefr" else {f"vqvae.{key}": value for key, value in weights.items()}
    stored["loss.discriminator.weight"] = torch.nn.Parameter(torch.ones(2))
    torch.save(lightning(stored, tmp_path / "ran"), tmp_path / "file.ckpt")
    loaded = load_network(tmp_path / "file.ckpt").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_and_shared_or_turned_tensors_are_read(dtype, tmp_path):
    weights = make_network(FAMILIES["stage_one"]).to(dtype).state_dict()
    key = "quantize.embedding.weight"
    weights[key] = weights[key].T.contiguous().T  # stored column by column
    torch.save({"state_dict": weights, "made by": ModelCheckpoint(tmp_path / "ran")}, tmp_path / "file.ckpt")
    loaded = load_network(tmp_path / "file.ckpt").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


# Every way of a pickle to call something; {} is the command, as an argument.
ATTACKS = {
    "reduce": b"cposix\nsystem\n(S'{}'\ntR.",
    "inst": b"(S'{}'\niposix\nsystem\n.",
    "obj": b"(cposix\nsystem\nS'{}'\no.",
    "newobj": b"\x80\x02cposix\nsystem\n(S'{}'\nt\x81.",
    "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93(S'{}'\ntR.",
    "build": b"\x80\x02ccollections\nOrderedDict\n)R}(S'__class__'\ncposix\nsystem\nS'x'\nS'{}'\nub.",
    "getattr": b"c__builtin__\ngetattr\n(cposix\nsystem\nS'__call__'\ntR(S'{}'\ntR.",
    "eval": b'c__builtin__\neval\n(S\'__import__("os").system("{}")\'\ntR.',
    "rebuild": b"ctorch._utils\n_rebuild_tensor_v2\n(cposix\nsystem\nI0\n(I1\nt(I1\ntI00\nctorch\nFloatStorage\ntR.",
    "parameter": b"ctorch._utils\n_rebuild_parameter\n(cposix\nsystem\ntR(S'{}'\ntR.",
    "dtype": b"ctorch\nFloatStorage\n(S'{}'\ntR.",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_opcode_of_a_hostile_file_runs_anything(attack, tmp_path):
    path, mark = tmp_path / "file.ckpt", tmp_path / "ran"
    pickled = ATTACKS[attack].replace(b"{}", f"touch {mark}".encode())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", "3\n")
    with pytest.raises(CheckpointError) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    "place", [(10**9, (1,), (1,)), (0, (10**9,), (1,)), (0, (2,), (10**9,)), (-1, (1,), (1,)), (0, (-1,), (1,))]
)
def test_a_tensor_beyond_its_storage_is_refused(place, tmp_path):
    offset, size, stride = place

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, OrderedDict())

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(obj, Storage) else None

    with zipfile.ZipFile(tmp_path / "bad.ckpt", "w") as target, open(tmp_path / "pickle", "w+b") as file:
        Pickler(file, 2).dump({"state_dict": {"a": Tensor()}, "x": ModelCheckpoint})
        file.seek(0)
        target.writestr("a/data.pkl", file.read())
        target.writestr("a/data/0", bytes(16))
        target.writestr("a/version", "3\n")
    with pytest.raises(CheckpointError):
        load_network(tmp_path / "bad.ckpt")
