"""`iqpbfr restore` on whole photos: what is written, what is kept, and what is said when something is missing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from networks import write_upscaler
from photos import detector_file, needs_photos, read_photo_number
from PIL import ExifTags, Image, ImageCms

from iqpbfr_core.image import read_image, to_pil
from iqpbfr_core.photo import read_photo, write_photo

_ORIENTATION, _DATE = ExifTags.Base.Orientation, ExifTags.Base.DateTime


@pytest.fixture
def call():
    """Run the command line in this process: (exit code, stdout, stderr with single blanks)."""

    def call_and_read(*arguments):
        result = run(*arguments)
        return result.returncode, result.stdout, " ".join(result.stderr.split())

    return call_and_read


@pytest.fixture
def restore(call, tiny_file):
    """`iqpbfr restore` with the tiny model and the small detector."""
    return lambda *more: call("restore", *more, "--model", tiny_file, "--detector", detector_file(), "--device", "cpu")


@needs_photos
def test_a_folder_of_formats_is_restored_and_one_bad_file_stops_nothing(tmp_path, restore):
    picture = to_pil(read_photo_number(8)[0])  # one face
    source, out = tmp_path / "in", tmp_path / "in" / "restored"
    (source / "deep" / "er").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.webp", "deep/er/c.tif", "d.png"):
        picture.save(source / name)
    (source / "bad.png").write_text("no image")
    (source / "deep" / "notes.txt").write_text("no image either")
    code, said, errors = restore(source, "-o", out)
    assert code == 1
    assert "bad.png" in errors
    assert "1 of 5 failed" in errors
    written = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert written == ["a.jpg", "d.png", "deep/b.webp", "deep/er/c.tif"]
    assert said.count(": 1 face restored") == 4
    before, after = read_image(source / "d.png"), read_image(out / "d.png")
    same = (before == after).all(1).float().mean()
    assert 0.8 < same < 1
    for name in ("deep/b.webp", "deep/er/c.tif"):
        assert Image.open(out / name).size == picture.size

    code, said, errors = restore(source, "-o", out, "--resume")
    assert code == 1, "the bad file is tried again"
    assert "4 finished already" in errors
    assert said == ""


@needs_photos
def test_a_photo_without_faces_is_copied_and_formats_can_be_chosen(tmp_path, restore):
    Image.new("RGB", (80, 60), (20, 90, 30)).save(tmp_path / "sky.jpg", quality=60)
    assert restore(tmp_path / "sky.jpg", "-o", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "sky.jpg").read_bytes() == (tmp_path / "sky.jpg").read_bytes()
    assert restore(tmp_path / "sky.jpg", "-o", tmp_path / "out", "--format", "png")[0] == 0
    assert Image.open(tmp_path / "out" / "sky.png").format == "PNG"


@needs_photos
def test_faces_can_be_chosen(tmp_path, restore):
    to_pil(read_photo_number(5)[0]).save(tmp_path / "two.png")
    assert ": 2 faces restored" in restore(tmp_path / "two.png", "-o", tmp_path / "out")[1]
    for choice in ("largest", "left"):
        assert ": 1 face restored" in restore(tmp_path / "two.png", "-o", tmp_path / choice, "--faces", choice)[1]
    images = [read_image(tmp_path / choice / "two.png") for choice in ("largest", "left")]
    assert not images[0].equal(images[1])
    assert ": 1 face restored" in restore(tmp_path / "two.png", "-o", tmp_path / "out", "--min-face", "100")[1]
    assert ": 2 faces restored" in restore(
        tmp_path / "two.png", "-o", tmp_path / "out", "--min-face", "100", "--small-faces", "upscale"
    )[1]  # fmt: skip


def test_photos_need_no_detector_file(tmp_path, call, tiny_file):
    face = Image.open(Path(__file__).parents[2] / "pictures" / "face.png").resize((160, 160))
    photo = Image.new("RGB", (300, 240), (90, 110, 130))
    photo.paste(face, (70, 40))
    photo.save(tmp_path / "photo.png")
    code, said, _ = call("restore", tmp_path / "photo.png", "-o", tmp_path / "out", "--model", tiny_file)
    assert code == 0
    assert "1 face" in " ".join(said.split())


def test_a_missing_detector_and_wrong_words_are_explained(tmp_path, call, tiny_file):
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    base = ("restore", tmp_path / "a.png", "-o", tmp_path / "out", "--model", tiny_file, "--model-dir", tmp_path)
    code, _, errors = call(*base, "--detector", "retinaface_resnet50")
    assert code == 2
    for part in ("detection_Resnet50_Final.pth", str(tmp_path), "https://", "--download"):
        assert part in errors
    for more, word in (
        (("--faces", "ugly"), "largest"),
        (("--small-faces", "eat"), "upscale"),
        (("--format", "gif"), ".webp"),
        (("--detector", "yolo"), "retinaface_resnet50"),
        (("--detector", tmp_path / "none.pth"), "no such weight file"),
    ):
        code, _, errors = call(*base, *more)
        assert code == 2
        assert word in errors
    assert not (tmp_path / "out").exists()


def rgb(size=(40, 30)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_applied_and_metadata_kept(tmp_path, suffix):
    exif = Image.Exif()
    exif[_ORIENTATION], exif[_DATE] = 6, "2001:02:03 04:05:06"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = tmp_path / f"in{suffix}"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] = "a lens"
    rgb().save(source, exif=exif.tobytes(), icc_profile=profile)
    photo = read_photo(source)
    assert tuple(photo.pixels.shape) == (1, 3, 40, 30)
    write_photo(photo.pixels[0], photo, tmp_path / f"out{suffix}")
    with Image.open(tmp_path / f"out{suffix}") as written:
        assert written.size == (30, 40)
        assert written.info["icc_profile"] == profile
        assert written.getexif()[_DATE] == "2001:02:03 04:05:06"
        assert written.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] == "a lens"
        assert written.getexif().get(_ORIENTATION, 1) == 1
    if suffix in (".png", ".tif"):
        assert read_image(tmp_path / f"out{suffix}").equal(photo.pixels)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "CMYK", "1"])
def test_modes_survive_a_round_trip(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.random.default_rng(0).integers(0, 65535, (30, 40)).astype(np.uint16))
    else:
        image = rgb().convert(mode)
    source = tmp_path / ("in.tif" if mode == "CMYK" else "in.png")
    image.save(source)
    photo = read_photo(source)
    write_photo(photo.pixels[0], photo, tmp_path / f"out{source.suffix}")
    with Image.open(tmp_path / f"out{source.suffix}") as written:
        assert written.mode == {"P": "RGB", "CMYK": "RGB", "1": "L"}.get(mode, mode)
    assert read_photo(tmp_path / f"out{source.suffix}").pixels.equal(photo.pixels)


def test_files_of_several_pages_are_refused(tmp_path):
    rgb().save(tmp_path / "pages.tif", save_all=True, append_images=[rgb()])
    with pytest.raises(ValueError, match="2 pages"):
        read_photo(tmp_path / "pages.tif")


@needs_photos
def test_json_says_what_happened_line_by_line(tmp_path, restore):
    to_pil(read_photo_number(8)[0]).save(tmp_path / "face.png")
    Image.new("RGB", (64, 48), "grey").save(tmp_path / "nobody.png")
    code, said, _ = restore(tmp_path / "face.png", tmp_path / "nobody.png", "-o", tmp_path / "out", "--json")
    assert code == 0
    face, nobody = (json.loads(line) for line in said.splitlines())
    assert face["path"] == str(tmp_path / "out" / "face.png")
    (found,) = face["faces"]
    left, top, right, bottom = found["box"]
    assert left < right
    assert top < bottom
    assert 0 < found["confidence"] <= 1
    assert nobody["faces"] == []
    assert nobody["report"] == "no face found"


@needs_photos
def test_faces_are_pasted_into_an_enlarged_photo(tmp_path, restore):
    photo = to_pil(read_photo_number(8)[0])
    photo.save(tmp_path / "face.png")
    large = photo.resize((2 * photo.width, 2 * photo.height))
    (tmp_path / "large").mkdir()
    large.save(tmp_path / "large" / "face.jpg", quality=95)
    given = restore(tmp_path / "face.png", "-o", tmp_path / "given", "--background", tmp_path / "large")
    assert ": 1 face restored" in given[1]
    before, after = read_image(tmp_path / "large" / "face.jpg"), read_image(tmp_path / "given" / "face.png")
    assert 0.6 < (before == after).all(1).float().mean() < 1

    write_upscaler(tmp_path / "x2.pth")
    Image.new("RGB", (40, 30)).save(tmp_path / "nobody.png")
    assert restore(tmp_path / "nobody.png", "-o", tmp_path / "made", "--upscale", tmp_path / "x2.pth")[0] == 0
    assert Image.open(tmp_path / "made" / "nobody.png").size == (80, 60)

    (tmp_path / "large" / "face.jpg").unlink()
    code, _, errors = restore(tmp_path / "face.png", "-o", tmp_path / "gone", "--background", tmp_path / "large")
    assert code == 1
    assert str(tmp_path / "large" / "face.png") in errors
    code, _, errors = restore(tmp_path / "face.png", "-o", tmp_path / "x", "--upscale", "x.pth", "--background", ".")
    assert code == 2
    assert "--background" in errors


@needs_photos
def test_half_precision_restores_much_the_same(tmp_path, restore):
    to_pil(read_photo_number(8)[0]).save(tmp_path / "face.png")
    for precision in ("fp32", "bf16"):
        assert restore(tmp_path / "face.png", "-o", tmp_path / precision, "--precision", precision)[0] == 0
    one, other = (read_image(tmp_path / precision / "face.png") for precision in ("fp32", "bf16"))
    assert (one - other).abs().mean() < 2 / 255
    code, _, errors = restore(tmp_path / "face.png", "-o", tmp_path / "x", "--precision", "int8")
    assert code == 2
    assert "fp16" in errors


def test_what_the_processor_changes_is_said(tmp_path, call, tiny_file, monkeypatch):
    face = Path(__file__).parents[2] / "pictures" / "face.png"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    for options, is_said in ((), True), (("--precision", "fp32"), False), (("--model", tiny_file), False):
        code, _, errors = call("restore", "--aligned", face, "-o", tmp_path / "out", "--device", "cpu", *options)
        assert code == 0
        assert ("--precision fp32" in errors) == is_said


def test_the_doctor_names_what_is_missing_and_what_lies_where(tmp_path, call, monkeypatch):
    folder = tmp_path / "facedetection"
    folder.mkdir()
    (folder / "parsing_parsenet.pth").write_bytes(b"0" * 3_000_000)
    monkeypatch.setattr("iqpbfr_core.cli.doctor._installed", lambda name: "" if name == "pyiqa" else "9.9")
    code, said, _ = call("doctor", "--models", tmp_path)
    assert code == 0
    assert "cpu" in said
    assert "pip install" in said
    assert "for iqa:" in said
    assert "for cli:" not in said
    assert "3 MB" in said
