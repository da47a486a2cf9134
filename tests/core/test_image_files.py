"""Image files as the world has them: broken, lying, huge, odd. Each is read right or refused in one line."""

import io
import os
import struct
import threading
import zlib

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, TiffImagePlugin

from iqpbfr_core.cli.aligned import to_square
from iqpbfr_core.errors import InputError, OutputError
from iqpbfr_core.image import check_images, check_mask, read_image, write_atomically
from iqpbfr_core.photo import read_photo, write_photo
from iqpbfr_core.quality import load_metric


def picture(width=40, height=30, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def tiff(**tags):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[getattr(ExifTags.Base, name)] = value
    return encoded(picture(), "TIFF", tiffinfo=info)


def _png_claiming(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + encoded(picture(), "PNG")[33:]


_PAGES = encoded(picture(), "TIFF", save_all=True, append_images=[picture(), picture()])
_GIF = encoded(picture(), "GIF", save_all=True, append_images=[picture(20, 20)])
UNREADABLE = {
    "empty.png": b"",
    "text.jpg": b"<html>not found</html>",
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n",
    "gif.png": _GIF,
    "broken_gif.png": _GIF[:-30] + b"\x21\xf9\x04",
    "pages.tif": _PAGES,
    "cut_pages.tif": _PAGES[: len(_PAGES) // 2],
    "moved_pages.tif": _PAGES[:4] + struct.pack("<I", len(_PAGES) - 7) + _PAGES[8:],
    "animated.png": encoded(picture(), "PNG", save_all=True, append_images=[picture().rotate(90)]),
    "animated.webp": encoded(picture(), "WEBP", save_all=True, append_images=[picture().rotate(90)]),
    "cut.jpg": encoded(picture(), "JPEG")[:300],
    "cut.webp": encoded(picture(), "WEBP")[:100],
    "huge.png": _png_claiming(2**31 - 1, 2**31 - 1),
    "wide.png": _png_claiming(2**31 - 1, 16),
    "nan.tif": encoded(Image.fromarray(np.full((30, 40), np.nan, np.float32)), "TIFF"),
    "some_nan.tif": encoded(Image.fromarray(np.diag(np.full(30, np.nan, np.float32))), "TIFF"),
    "infinite.tif": encoded(Image.fromarray(np.full((30, 40), np.inf, np.float32)), "TIFF"),
    "bright.tif": encoded(Image.fromarray(np.full((30, 40), 4000.0, np.float32)), "TIFF"),
    "dot.png": encoded(picture(3, 3), "PNG"),
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("read", [read_image, read_photo])
def test_what_is_no_picture_is_refused_in_one_line(name, read, tmp_path):
    (tmp_path / name).write_bytes(UNREADABLE[name])
    with pytest.raises(InputError, match=name.replace(".", r"\.")) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_no_other_program_is_started(tmp_path, monkeypatch):
    for name in ("system", "popen", "posix_spawn", "fork", "execv"):
        monkeypatch.setattr(os, name, lambda *_: pytest.fail("started a program"))
    (tmp_path / "a.png").write_bytes(UNREADABLE["postscript.png"])
    with pytest.raises(InputError, match="not a readable image"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "nothing"])
def test_what_is_no_file_is_refused_without_waiting(kind, tmp_path):
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(tmp_path / "b.png")
        (tmp_path / "b.png").symlink_to(path)
    said = []

    def read():
        with pytest.raises(InputError) as caught:
            read_image(path)
        said.append(str(caught.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert said == [f"{path}: {'no such file' if kind in ('loop', 'nothing') else 'not a file'}."]


def _exif(**tags):
    exif = Image.Exif()
    for name, value in tags.items():
        exif[getattr(ExifTags.Base, name)] = value
    return exif.tobytes()


_JUNK = b"Exif\x00\x00" + bytes(range(256))
ODD = {
    "junk_exif.jpg": encoded(picture(), "JPEG", exif=_JUNK),
    "junk_exif.png": encoded(picture(), "PNG", exif=_JUNK),
    "torn_exif.jpg": encoded(picture(), "JPEG", exif=_exif(Artist="a" * 300, Copyright="b" * 300)[:90]),
    "high_orientation.jpg": encoded(picture(), "JPEG", exif=_exif(Orientation=200)),
    "no_resolution.tif": tiff(XResolution=TiffImagePlugin.IFDRational(0, 0), YResolution=TiffImagePlugin.IFDRational(0, 0)),
    "zero_resolution.jpg": encoded(picture(), "JPEG", exif=_exif(XResolution=0, YResolution=0, ResolutionUnit=2)),
    "high_resolution.jpg": encoded(
        picture(), "JPEG", exif=_exif(XResolution=2**31 - 1, YResolution=2**31 - 1, ResolutionUnit=2)
    ),
    "long_exif.png": encoded(picture(), "PNG", exif=_exif(ImageDescription="x" * 70_000)),
    "junk_profile.jpg": encoded(picture(), "JPEG", icc_profile=b"no profile"),
    "plain.bmp": encoded(picture(), "BMP"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_metadata_costs_no_picture(name, tmp_path):
    """It is read, and written in every format or refused with a way out; the pixels are right."""
    (tmp_path / name).write_bytes(ODD[name])
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image.convert("RGB"))
    photo = read_photo(tmp_path / name)
    assert np.array_equal((photo.pixels[0] * 255).round().byte().permute(1, 2, 0).numpy(), expected)
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        target = tmp_path / f"out{suffix}"
        try:
            write_photo(photo.pixels[0], photo, target)
        except OutputError as error:
            said = str(error)
            assert not target.exists()
        else:
            said = "Choose another format"
            assert read_photo(target).pixels.shape == photo.pixels.shape
        assert "Choose another format" in said
    same = tmp_path / f"same{(tmp_path / name).suffix}"
    write_photo(photo.pixels[0], photo, same)  # its own format takes it


@pytest.mark.parametrize("scale", [1, 255])
def test_floating_point_pictures_keep_their_grey(scale, tmp_path):
    grey = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    Image.fromarray(grey * scale).save(tmp_path / "a.tif")
    photo = read_photo(tmp_path / "a.tif")
    assert photo.is_grey
    assert np.allclose(photo.pixels[0, 1].numpy(), grey, atol=1e-6)
    write_photo(photo.pixels[0], photo, tmp_path / "b.tif")
    assert np.allclose(read_photo(tmp_path / "b.tif").pixels[0, 1].numpy(), grey, atol=1e-5)


def test_strips_are_refused_before_they_fill_the_memory():
    for size in ((16, 65_000), (65_000, 16), (20, 400)):
        strip = torch.rand(1, 3, *size)
        with pytest.raises(InputError, match="strip"):
            to_square(strip)
        with pytest.raises(InputError, match="strip"):
            load_metric()(strip)
    with pytest.raises(InputError, match="8192"):
        to_square(torch.zeros(1, 3, 600, 8200))
    assert to_square(torch.rand(1, 3, 20, 200)).shape == (1, 3, 200, 200)


@pytest.mark.parametrize(
    ("low", "high", "cause"), [(0, 255, "Divide by 255"), (-1, 1, "add 0.5"), (0, 1.2, "got"), (-3, 3, "got")]
)
def test_images_in_another_range_are_refused_with_the_likely_cause(low, high, cause):
    with pytest.raises(InputError, match=cause):
        check_images(torch.linspace(low, high, 3 * 400).reshape(1, 3, 20, 20))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 1.5, 255])
def test_masks_hold_shares(value):
    mask = torch.zeros(1, 1, 20, 20)
    assert check_mask(mask) is mask
    mask[0, 0, 3, 3] = value
    with pytest.raises(InputError, match="mask"):
        check_mask(mask)


def test_a_kill_while_writing_leaves_the_old_file_and_its_rest_is_taken_up(tmp_path, monkeypatch):
    target = tmp_path / "a.bin"
    write_atomically(target, b"old")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("iqpbfr_core.image.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    (tmp_path / ".a.bin.part").write_bytes(b"a longer rest of a process that was killed")
    write_atomically(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert target.read_bytes() == b"new"
