"""A batch of files in a bad world: what fails is named in one line, the rest is done, and nothing is lost."""

import json
import os

import pytest
import torch
from commands import run
from PIL import Image

from iqpbfr_core import image
from iqpbfr_core.cli import restore as restore_command
from iqpbfr_core.faces.face import Faces
from iqpbfr_core.image import to_pil, write_image

GOOD = ("0.png", "a:smile:b.png", "[red]x.png", "c\udcff.png", "z.png")


@pytest.fixture
def folder(tmp_path, faces):
    """A folder of good faces, with all that goes wrong between them."""
    place = tmp_path / "in"
    for name in GOOD:
        write_image(faces[0], place / name)
    (place / "1_text.png").write_text("<html>")
    (place / "2_empty.png").write_bytes(b"")
    (place / "3_postscript.png").write_text("%!PS-Adobe-3.0\nshowpage\n")
    frames = [to_pil(face) for face in faces]
    frames[0].save(place / "4_animated.png", save_all=True, append_images=frames[1:])
    frames[0].save(place / "5_pages.tif", save_all=True, append_images=frames[1:])
    (place / "5_pages.tif").write_bytes((place / "5_pages.tif").read_bytes()[:5000])
    Image.new("RGB", (16, 3000)).save(place / "6_strip.png")
    Image.new("RGB", (3, 3)).save(place / "7_dot.png")
    os.mkfifo(place / "8_pipe.png")
    (place / "9_folder.png").mkdir()
    (place / "9_loop.png").symlink_to("9_loop.png")
    return place


BAD = ("1_text.png", "2_empty.png", "3_postscript.png", "4_animated.png", "5_pages.tif", "6_strip.png", "7_dot.png")


@pytest.mark.parametrize("command", ["score", "degrade", "restore --aligned", "optimize"])
def test_one_bad_file_does_not_end_the_batch(command, folder, tmp_path, tiny_file):
    more = {
        "score": (),
        "degrade": ("-o", tmp_path / "out"),
        "restore --aligned": ("-o", tmp_path / "out", "--model", tiny_file),
        "optimize": ("-o", tmp_path / "out", "--model", tiny_file, "--steps", 1),
    }[command]
    result = run(*command.split(), folder, *more)
    bad = [name for name in BAD if (command, name) != ("degrade", "6_strip.png")]  # that one can be degraded
    assert result.returncode == 1
    failed = [line for line in result.stderr.splitlines() if line.startswith("Failed: ")]
    assert [name for name in BAD if any(name in line for line in failed)] == bad
    assert len(failed) == len(bad)
    assert f"{len(bad)} of {len(GOOD) + len(BAD)} failed." in result.stderr
    for name in GOOD:
        shown = name.encode("utf-8", "backslashreplace").decode()
        assert any(shown.removesuffix(".png") in line for line in result.stdout.splitlines()), result.stdout


def test_a_mistake_of_ours_is_not_taken_for_a_bad_file(folder, monkeypatch):
    monkeypatch.setattr("iqpbfr_core.cli.score.read_image", lambda path: len(5))
    with pytest.raises(TypeError):
        run("score", folder / "0.png")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"), PermissionError("no")]
)
def test_what_the_machine_refuses_for_one_file_is_reported(error, folder, monkeypatch):
    def refuse(path):
        raise error

    monkeypatch.setattr("iqpbfr_core.cli.score.read_image", refuse)
    result = run("score", folder / "0.png", folder / "z.png")
    assert result.returncode == 1
    assert result.stderr.count("Failed: ") == 2


@pytest.mark.parametrize("kind", ["same", "link", "relative"])
def test_no_command_overwrites_its_input(kind, tmp_path, faces, tiny_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "f.png"
    write_image(faces[0], source)
    target = {"same": source, "link": tmp_path / "l.png", "relative": "./x/../f.png"}[kind]
    (tmp_path / "x").mkdir()
    if kind == "link":
        target.symlink_to(source)
    before = source.read_bytes()
    for command in (
        ("sweep", source, "-o", target, "--model", tiny_file),
        ("evaluate", "--data", tmp_path, "--grid", target, "--model", tiny_file, "--limit", 1),
    ):
        result = run(*command)
        assert result.returncode == 2
        assert "overwrite an input" in result.stderr
        assert source.read_bytes() == before


def test_words_that_mean_nothing_are_refused(tmp_path, faces, tiny_file):
    for split in ("train", "test"):
        write_image(faces[0], tmp_path / "data" / split / "a.png")
    write_image(faces[0], tmp_path / "data" / "b.png")
    face = tmp_path / "data" / "b.png"
    for arguments, words in (
        (("score", ""), "empty"),
        (("restore", face, "-o", "", "--model", tiny_file), "empty"),
        (("evaluate", "--data", tmp_path / "data", "--split", "tset", "--model", tiny_file), "tset"),
        (("evidence", "R1", "--data", tmp_path / "data", "--split", "tset", "--model", tiny_file), "tset"),
        (("restore", "--aligned", face, "-o", tmp_path / "o", "--faces", "left"), "--faces"),
        (("restore", "--aligned", face, "-o", tmp_path / "o", "--format", "jpg"), "--format"),
        (("restore", "--aligned", face, "-o", tmp_path / "o", "--min-face", "3", "--keep-colour"), "--min-face"),
        *(
            (("degrade", face, "-o", tmp_path / "o", "--seed", seed), "seed")
            for seed in ("-1", str(2**32), "9" * 30, "x")
        ),
        *((("score", face, "--device", name), "device") for name in ("tpu9", "meta", "cuda:77", "xla", "hpu", "a b")),
        (("train", "metric", "--data", tmp_path / "data", "--out", tmp_path / "r", "--precision", "fp8"), "fp8"),
        (("train", "lookup", "--data", tmp_path, "--out", tmp_path / "r", "--init", face), "b.png"),
    ):
        result = run(*arguments)
        assert result.returncode == 2, (arguments, result)
        assert words in result.stderr, (arguments, result.stderr)


def test_json_holds_no_nan(tmp_path, faces, tiny_file, monkeypatch):
    write_image(faces[0], tmp_path / "in" / "a.png")

    def not_a_number(text):
        raise AssertionError(f"{text} is no JSON")

    monkeypatch.setattr("iqpbfr_core.quality.BuiltinMetric.raw", lambda self, images: torch.full((1,), float("nan")))
    result = run("score", tmp_path / "in", "--json")
    assert json.loads(result.stdout, parse_constant=not_a_number) == []
    assert result.returncode == 1
    assert "no score" in result.stderr
    result = run("evaluate", "--data", tmp_path / "in", "--model", tiny_file, "--json")
    assert json.loads(result.stdout, parse_constant=not_a_number)["mean"]["gt/builtin"] is None


class Killed(BaseException):
    """As abrupt as a signal."""


def _one_face_in_dark_photos(images, confidence=0.8):
    size = tuple(images.shape[2:])
    if images.mean() > 0.5:
        return Faces.none(size)
    landmarks = torch.tensor([[[30.0, 35.0], [50.0, 35.0], [40.0, 45.0], [32.0, 55.0], [48.0, 55.0]]])
    return Faces(torch.tensor([[20.0, 20.0, 60.0, 65.0]]), landmarks, torch.ones(1), torch.zeros(1).long(), size)


def test_photos_killed_at_any_file_are_resumed_to_the_same_result(tmp_path, tiny_file, monkeypatch):
    monkeypatch.setattr(restore_command, "load_detector", lambda *_, **__: _one_face_in_dark_photos)
    source = tmp_path / "in"
    source.mkdir()
    for number, shade in enumerate((40, 200, 60, 220)):  # faces in the dark ones; the others are copied
        noise = torch.rand(3, 80, 90, generator=torch.Generator().manual_seed(number)) * 0.1
        to_pil(noise + shade / 255).save(source / f"{number}.{('jpg', 'png')[number % 2]}")

    def restore(out, *more):
        return run("restore", source, "-o", out, "--model", tiny_file, "--device", "cpu", *more)

    def files(out):
        return {path.name: path.read_bytes() for path in out.iterdir()}

    assert restore(tmp_path / "whole").returncode == 0
    assert len(files(tmp_path / "whole")) == 4
    for number in range(4):
        for is_torn in (False, True):
            out, left = tmp_path / f"{number}{is_torn}", [number]

            def replace(part, target, left=left, is_torn=is_torn, out=out):
                if left[0] == 0:
                    os.truncate(part, os.path.getsize(part) // 2)
                    if is_torn:
                        os.link(part, out / "rest")
                    raise Killed
                left[0] -= 1
                os.rename(part, target)

            with monkeypatch.context() as patch:
                patch.setattr(image.os, "replace", replace)
                with pytest.raises(Killed):
                    restore(out)
            if is_torn:
                (out / "rest").rename(out / f".{sorted(os.listdir(source))[number]}.part")
            assert restore(out, "--resume").returncode == 0
            assert files(out) == files(tmp_path / "whole")
