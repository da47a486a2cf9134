"""Getting models: a table of what there is, downloads into the right folder, and words for what does not belong here."""

import pytest
import torch
from networks import FAMILIES, make_network
from safetensors.torch import save_file
from typer.testing import CliRunner

from iqpbfr_core import strangers
from iqpbfr_core.catalogue import FACES, MODELS, Model, find_model
from iqpbfr_core.checkpoint import load_network, save_network
from iqpbfr_core.cli import app
from iqpbfr_core.download import WeightFile
from iqpbfr_core.errors import CheckpointError, InputError


def test_every_model_has_a_name_a_folder_and_a_licence():
    assert len({model.name for model in MODELS}) == len({model.file.name for model in MODELS}) == len(MODELS)
    for model in MODELS:
        assert model.file.url.endswith(f"/{model.file.name}")
        assert model.folder
        assert model.licence


def test_models_are_found_by_the_names_people_know():
    assert find_model("codeformer").file.name == "codeformer.pth"
    assert find_model("detection_Resnet50_Final.pth").name == "retinaface_resnet50"
    with pytest.raises(InputError, match="codeformer"):
        find_model("gpen")


def test_download_puts_the_file_where_it_belongs_once(tmp_path, monkeypatch):
    source = tmp_path / "released.pth"
    source.write_bytes(b"weights")
    model = Model("one", WeightFile("one.pth", source.as_uri(), 7), FACES, "MIT")
    monkeypatch.setattr("iqpbfr_core.cli.download.find_model", lambda _: model)
    for words in ("MIT", "is there already"):
        run = CliRunner().invoke(app, ["download", "one", "-o", str(tmp_path / "models")])
        assert run.exit_code == 0, run.output
        assert words in run.output
        assert (tmp_path / "models" / FACES / "one.pth").read_bytes() == b"weights"


def test_download_without_a_name_lists_all():
    output = CliRunner().invoke(app, ["download"]).output
    assert all(model.name in output for model in MODELS), "names are what one types, and are not broken into lines"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\n<!DOCTYPE html><html>", "saved web page"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS")],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_model_at_all_is_said_in_a_line(tmp_path, content, words, suffix):
    file = tmp_path / f"codeformer{suffix}"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_network(file)
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ("BboxHead.0.conv1x1.weight", "models/facedetection"),
        ("model.diffusion_model.input_blocks.0.0.weight", "Load Checkpoint"),
        ("module.body.0.rdb1.conv1.weight", "Load Upscale Model"),
    ],
)
def test_models_of_another_kind_are_named(tmp_path, tensor, words):
    torch.save({"params": {tensor: torch.zeros(1)}}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=f"this is .*{words}"):
        load_network(tmp_path / "file.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_other_kinds_are_told_without_reading_them(tmp_path, kind):
    """So that lists of restorers leave them out, in every format such files come in."""

    def write(name, tensor):
        file = tmp_path / f"{name}{'.safetensors' if kind == 'safetensors' else '.pth'}"
        if kind == "safetensors":
            save_file({tensor: torch.zeros(1)}, file)
        else:
            torch.save({"params": {tensor: torch.zeros(1)}}, file, _use_new_zipfile_serialization=kind == "zip")
        return file

    detector = write("one", "BboxHead.0.conv1x1.weight")
    assert "RetinaFace" in strangers.what_it_is(detector)
    assert strangers.is_detector(detector)
    assert "upscaler" in strangers.what_it_is(write("two", "module.body.0.rdb1.conv1.weight"))
    restorer = write("three", "post_quant_conv.weight")  # RestoreFormer has it, and so have VAEs
    assert strangers.what_it_is(restorer) == ""
    assert not strangers.is_detector(restorer)
    restorer.write_bytes(b"<html>")
    assert "web page" in strangers.what_it_is(restorer)
    restorer.write_bytes(b"PK\3\4 cut off")
    assert strangers.what_it_is(restorer) == ""  # loading says what is wrong


@pytest.mark.parametrize("family", FAMILIES)
def test_no_restorer_is_taken_for_another_kind(tmp_path, family):
    save_network(make_network(FAMILIES[family]), tmp_path / "model.safetensors")
    assert strangers.what_it_is(tmp_path / "model.safetensors") == ""
