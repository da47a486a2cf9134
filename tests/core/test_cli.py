"""The command line as a user meets it: results, and for anything wrong a message and exit code 2."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import run
from networks import FAMILIES, make_network
from PIL import Image

from iqpbfr_core.adapters import new_adapter
from iqpbfr_core.checkpoint import load_network, save_network
from iqpbfr_core.cli import VERBS
from iqpbfr_core.image import read_image, write_image
from iqpbfr_core.restorer import Restorer


def refused(*arguments, code=2):
    result = run(*arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return " ".join(result.stderr.split())


@pytest.fixture
def pictures(tmp_path, faces):
    for index, face in enumerate(faces):
        write_image(face, tmp_path / "in" / f"{index}.png")
    return tmp_path / "in"


def test_restore_keeps_going_when_one_file_is_bad(tmp_path, pictures, tiny_file):
    (pictures / "1.png").write_text("not an image")
    result = run("restore", "--aligned", pictures, "-o", tmp_path / "out", "--model", tiny_file)
    assert result.returncode == 1
    assert "1.png" in result.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]


def test_restore_takes_faces_of_any_size(tmp_path, tiny_file):
    sizes = {"large": (200, 200), "small": (20, 20), "tall": (90, 120)}
    for name, size in sizes.items():
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    Image.fromarray(np.zeros((70, 70, 4), np.uint8)).save(tmp_path / "alpha.png")
    Image.fromarray(np.zeros((70, 70), np.uint8)).save(tmp_path / "grey.png")
    inputs = [tmp_path / f"{name}.png" for name in (*sizes, "alpha", "grey")]
    result = run("restore", "--aligned", *inputs, "-o", tmp_path / "out", "--model", tiny_file)
    assert result.returncode == 0, result.stderr
    found = {p.stem: Image.open(p).size for p in (tmp_path / "out").iterdir()}
    assert found == {"large": (200, 200), "small": (64, 64), "tall": (90, 120), "alpha": (70, 70), "grey": (70, 70)}


def test_restore_refuses_before_it_starts(tmp_path, pictures, tiny_file):
    out = tmp_path / "out"
    assert "quality" in refused("restore", "--aligned", pictures, "-o", out, "--quality", "1.5")
    assert "fidelity" in refused("restore", "--aligned", pictures, "-o", out, "--fidelity", "-0.1")
    assert "quality" in refused("restore", "--aligned", pictures, "-o", out, "--model", tiny_file, "--quality", "nan")
    assert "no such weight file" in refused(
        "restore", "--aligned", pictures, "-o", out, "--model", tmp_path / "codeformer.pth"
    )
    assert "overwrite" in refused("restore", "--aligned", pictures, "-o", pictures, "--model", tiny_file)
    assert "both be written" in refused("restore", "--aligned", pictures / "0.png", pictures / "0.png", "-o", out)
    assert "no such file" in refused(
        "restore", "--aligned", tmp_path / "nothing.png", "-o", out, "--model", tiny_file, code=1
    )
    assert "cannot be used" in refused("restore", "--aligned", pictures, "-o", out, "--device", "tpu9")
    (tmp_path / "empty").mkdir()
    assert "no images" in refused("restore", "--aligned", tmp_path / "empty", "-o", out)
    Image.new("RGB", (3, 3)).save(tmp_path / "dot.png")
    assert "at least 16" in refused(
        "restore", "--aligned", tmp_path / "dot.png", "-o", out, "--model", tiny_file, code=1
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_result_that_cannot_be_written_is_reported(tmp_path, pictures, tiny_file):
    (tmp_path / "file").write_text("in the way")
    assert "needs a folder" in refused("restore", "--aligned", pictures, "-o", tmp_path / "file", "--model", tiny_file)
    assert "could not be written" in refused(
        "restore", "--aligned", pictures, "-o", "/proc/nowhere", "--model", tiny_file, code=1
    )


def test_score_prints_csv_and_json(pictures):
    rows = list(csv.DictReader(io.StringIO(run("score", pictures, "--csv").stdout)))
    assert [r["metric"] for r in rows] == ["builtin"] * 3
    assert all(0 <= float(r["score"]) <= 1 for r in rows)
    assert len(json.loads(run("score", pictures, "--json").stdout)) == 3
    assert "unknown metric" in refused("score", pictures, "--metric", "nope")
    assert "https://" in refused("score", pictures, "--metric", "musiq", "--weights", pictures)


def test_degrade_is_seeded(tmp_path, pictures):
    for folder in ("a", "b"):
        assert run("degrade", pictures, "-o", tmp_path / folder, "--preset", "mild", "--seed", "7").returncode == 0
    assert (tmp_path / "a" / "1.png").read_bytes() == (tmp_path / "b" / "1.png").read_bytes()
    assert not torch.equal(read_image(tmp_path / "a" / "1.png"), read_image(pictures / "1.png"))
    assert "'daefr'" in refused("degrade", pictures, "-o", tmp_path / "c", "--preset", "severe")


def test_info_and_convert(tmp_path, tiny_file):
    assert "iqpbfr" in run("info", tiny_file).stdout
    torch.save({"params_ema": load_network(tiny_file).state_dict()}, tmp_path / "a.pth")
    assert run("convert", tmp_path / "a.pth", tmp_path / "b.safetensors", "--dtype", "float16").returncode == 0
    assert load_network(tmp_path / "b.safetensors").feat_emb.weight.dtype == torch.float16
    assert ".safetensors" in refused("convert", tiny_file, tmp_path / "b.pth")
    (tmp_path / "bad.pth").write_text("x")
    assert "bad.pth" in refused("info", tmp_path / "bad.pth")


def test_evaluate_prints_all_three(pictures, tiny_file):
    result = run("evaluate", "--data", pictures, "--model", tiny_file, "--json", "--limit", "2")
    assert result.returncode == 0, result.stderr
    mean = json.loads(result.stdout)["mean"]
    assert {
        "lq/psnr",
        "restored/psnr",
        "restored/ssim",
        "lq/builtin",
        "restored/builtin",
        "gt/builtin",
        "gt/piqe",
    } <= set(mean)


def test_train_command_runs(tmp_path, pictures):
    out = tmp_path / "run"
    arguments = (
        "train",
        "autoencoder",
        "--preset",
        "tiny",
        "--data",
        pictures,
        "--out",
        out,
        "--steps",
        2,
        "--batch-size",
        2,
    )
    result = run(*arguments, "--precision", "no")
    assert result.returncode == 0, result.stderr
    assert (out / "model.safetensors").exists()
    assert "tiny" in refused("train", "autoencoder", "--preset", "huge", "--data", pictures, "--out", out)
    assert "no such folder" in refused("train", "metric", "--data", tmp_path / "nowhere", "--out", out)


def test_version_and_help():
    called = [sys.executable, "-m", "iqpbfr_core", "--version"]
    assert subprocess.run(called, capture_output=True, text=True, check=True).stdout.strip()
    listed = run("--help").stdout
    for name in VERBS:
        assert name in listed
        assert run(name, "--help").stdout, name


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv[1:] = ['--help']; import iqpbfr_core.__main__ as m\ntry: m.main()\nfinally: assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_optimize_writes_faces_and_says_what_was_gained(tmp_path, pictures, tiny_file):
    result = run("optimize", pictures, "-o", tmp_path / "out", "--model", tiny_file, "--steps", 2, "--lq-weight", 1)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out").iterdir())) == 3
    first, last = result.stdout.split("->")[0].split()[-1], result.stdout.split("->")[1].split()[0]
    assert float(last) >= float(first)
    assert "unknown metric" in refused("optimize", pictures, "-o", tmp_path / "o", "--metric", "nope")
    assert "target" in refused("optimize", pictures, "-o", tmp_path / "o", "--target", "nan", "--model", tiny_file)


def test_sweep_draws_a_grid(tmp_path, pictures, tiny_file):
    out = tmp_path / "grid.png"
    arguments = ("sweep", pictures / "0.png", "-o", out, "--model", tiny_file)
    assert run(*arguments, "--quality", "0,1", "--fidelity", "0,0.5,1").returncode == 0
    assert Image.open(out).size[0] > 2 * 64
    assert Image.open(out).size[1] > 3 * 64
    assert "commas" in refused(*arguments, "--quality", "0;1")
    assert "fidelity" in refused(*arguments, "--fidelity", "1.5")


def test_an_adapter_gives_a_model_a_quality(tmp_path, pictures):
    restorer = Restorer(make_network(FAMILIES["codeformer"]))
    adapter = new_adapter(restorer)
    torch.nn.init.normal_(adapter.network.values.weight)
    adapter.save(tmp_path / "adapter.safetensors")
    save_network(restorer.network, tmp_path / "model.safetensors")
    steered = ["--model", tmp_path / "model.safetensors", "--adapter", tmp_path / "adapter.safetensors"]
    for quality in ("0.1", "0.9"):
        out = tmp_path / quality
        result = run("restore", "--aligned", pictures, "-o", out, "--fidelity", "0", "--quality", quality, *steered)
        assert result.returncode == 0, result.stderr
        assert "takes no quality" not in result.stderr
    assert (tmp_path / "0.1" / "0.png").read_bytes() != (tmp_path / "0.9" / "0.png").read_bytes()
    assert "score adapter" in run("info", tmp_path / "adapter.safetensors").stdout
    assert "codeformer" in run("info", tmp_path / "adapter.safetensors").stdout
    other = refused(
        "sweep", pictures / "0.png", "-o", tmp_path / "a.png", "--adapter", tmp_path / "adapter.safetensors"
    )
    assert "told a quality already" in other
    none = refused("restore", "--aligned", pictures, "-o", tmp_path / "x", "--adapter", tmp_path / "model.safetensors")
    assert "no score adapter" in none
