"""Training from tar shards: the same run as from a folder, readable by webdataset, and bad shards are named first."""

import dataclasses
import gzip
import io
import os
import tarfile

import pytest
import torch
from commands import run as call

from iqpbfr_core.errors import InputError
from iqpbfr_core.image import write_image
from iqpbfr_core.training import shards
from iqpbfr_core.training.data import list_faces, list_images, read_faces
from iqpbfr_core.training.loop import RunConfig, TimeIsUp, run
from iqpbfr_core.training.severity import SeverityStage
from iqpbfr_core.training.shards import list_shards, plan_shards, write_shard

SMALL = 2**14  # of a shard: a picture or two


@pytest.fixture
def folder(tmp_path, faces):
    """Seven pictures whose names sort otherwise than their numbers."""
    for number in range(7):
        suffix = "jpg" if number % 2 else "png"
        write_image(faces[number % len(faces)] * (1 - number / 20), tmp_path / "folder" / f"{number * 5}.{suffix}")
    return tmp_path / "folder"


def _pack(folder, out, size=SMALL):
    plan = plan_shards(list_images(folder), out, size)
    for shard, files in plan.items():
        write_shard(files, shard)
    return list(plan)


def _run(data, out, minutes=None, workers=0):
    config = RunConfig(
        data, out, 4, 3, 64, save_every=4, precision="no", more_data=data, minutes=minutes, workers=workers
    )
    result = run(SeverityStage(), config)
    return result.read_bytes(), (out / "samples_000004.png").read_bytes()


def test_a_run_on_shards_is_bit_for_bit_the_run_on_the_folder_also_after_a_stop(folder, tmp_path):
    packed = _pack(folder, tmp_path / "shards")
    assert len(packed) > 2
    elsewhere = tmp_path / "another_disk.tar"
    packed[1].rename(elsewhere)
    packed[1].symlink_to(elsewhere)
    on_folder = _run(folder, tmp_path / "on_folder")
    assert _run(tmp_path / "shards", tmp_path / "on_shards", workers=1) == on_folder
    for data in (tmp_path / "shards", folder):
        with pytest.raises(TimeIsUp):
            _run(data, tmp_path / "in_parts", minutes=0.0)
    assert _run(tmp_path / "shards", tmp_path / "in_parts") == on_folder


def test_faces_in_shards_are_those_of_the_folder_in_its_order(folder, tmp_path):
    _pack(folder, tmp_path / "shards" / "train")
    inside = list_faces(tmp_path / "shards", "train")
    assert [image.name for image in inside] == [file.name for file in list_faces(folder, "train")]
    assert torch.equal(read_faces(inside, 64), read_faces(list_images(folder), 64))


def test_pack_writes_the_same_shards_again_and_leaves_nothing_half_done(folder, tmp_path, monkeypatch):
    out = tmp_path / "shards"
    assert call("pack", folder, "-o", out).returncode == 0
    [shard] = out.iterdir()
    assert shard.name == "faces-00000-of-00001.tar"
    before = shard.read_bytes()
    assert call("pack", folder, "-o", out).returncode == 0
    assert shard.read_bytes() == before
    monkeypatch.setattr(shards.tarfile.TarFile, "addfile", _full_disk)
    assert call("pack", folder, "-o", out).returncode == 1
    assert [path.read_bytes() for path in out.iterdir()] == [before]


def _full_disk(*_):
    raise OSError(28, "No space left on device")


def test_webdataset_reads_our_shards_and_we_read_its(folder, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    ours = [str(shard) for shard in _pack(folder, tmp_path / "ours")]
    samples = list(webdataset.WebDataset(ours, shardshuffle=False))
    contents = [sample.get("png") or sample["jpg"] for sample in samples]
    assert contents == [file.read_bytes() for file in list_images(folder)]
    (tmp_path / "theirs").mkdir()
    with webdataset.ShardWriter(str(tmp_path / "theirs" / "f-%06d.tar"), maxcount=3, verbose=0) as writer:
        for file in list_images(folder):
            writer.write({"__key__": file.stem, file.suffix[1:]: file.read_bytes()})
    images = list_shards(tmp_path / "theirs")
    assert len({image.shard for image in images}) == 3
    assert torch.equal(read_faces(images, 64), read_faces(list_images(folder), 64))


def _add(shard, name, content=b"x", kind=tarfile.REGTYPE):
    with tarfile.open(shard, "a") as archive:
        member = tarfile.TarInfo(name)
        member.size, member.type = len(content), kind
        archive.addfile(member, io.BytesIO(content))


def _cut(shard, picture, by):
    os.truncate(shard, list_shards(shard.parent)[picture].offset - by)


def _preallocate(shard):
    size = shard.stat().st_size
    _cut(shard, 1, 512)
    os.truncate(shard, size + 2**21)


BAD = {
    "in a picture": (lambda packed: _cut(packed[0], 0, -100), "faces-00000.*not a readable shard"),
    "in a header": (lambda packed: _cut(packed[0], 1, 100), "faces-00000.*cut short or damaged after 1 "),
    "between pictures": (lambda packed: _cut(packed[0], 1, 512), "faces-00000.*cut short or damaged after 1 "),
    "never filled": (lambda packed: _preallocate(packed[0]), "faces-00000.*cut short or damaged after 1 "),
    "two in one": (
        lambda packed: packed[0].write_bytes(packed[0].read_bytes() + packed[1].read_bytes()),
        "faces-00000.*cut short or damaged",
    ),
    "nothing": (lambda packed: packed[1].write_bytes(b""), "faces-00001.*not a readable shard"),
    "compressed": (
        lambda packed: packed[1].write_bytes(gzip.compress(packed[1].read_bytes())),
        "faces-00001.*uncompressed",
    ),
    "missing": (lambda packed: packed[-1].unlink(), "1 are missing"),
    "other file": (lambda packed: _add(packed[0], "index.csv"), r"faces-00000.*index\.csv, which is no picture"),
    "hidden file": (lambda packed: _add(packed[0], "._0.png"), r"\._0\.png, which is no picture"),
    "link": (lambda packed: _add(packed[0], "a.png", b"", tarfile.SYMTYPE), r"a\.png, which is no picture"),
    "twice": (lambda packed: packed[0].with_name("copy.tar").write_bytes(packed[0].read_bytes()), "same sample"),
    "mask": (lambda packed: _add(packed[1], "0.mask.png"), "same sample"),
    "beside pictures": (lambda packed: write_image(torch.rand(3, 64, 64), packed[0].with_name("0.png")), "both"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_shards_are_named_before_a_run_begins(bad, folder, tmp_path):
    packed = _pack(folder, tmp_path / "shards")
    damage, message = BAD[bad]
    damage(packed)
    with pytest.raises(InputError, match=message):
        _run(tmp_path / "shards", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gap_in_the_numbers_of_webdataset_is_a_missing_shard(folder, tmp_path):
    packed = _pack(folder, tmp_path / "shards")
    for number, shard in zip((7, 8, 10), packed, strict=False):
        shard.rename(shard.with_name(f"ffhq512-{number:06d}.tar"))
    for shard in packed[3:]:
        shard.unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"ffhq512-\*.*number 9 "):
        list_shards(tmp_path / "shards")


def test_a_picture_that_cannot_be_read_is_named_with_its_shard(folder, tmp_path):
    (folder / "5.jpg").write_bytes(b"no picture")
    [shard] = _pack(folder, tmp_path / "shards", 2**30)
    images = list_shards(tmp_path / "shards")
    with pytest.raises(InputError, match=rf"{shard.name}/5\.jpg: not a readable image"):
        read_faces(images, 64)
    later = dataclasses.replace(images[0], size=images[0].size // 2)
    with pytest.raises(InputError, match=rf"{shard.name}/0\.png: not a readable image"):
        read_faces([later], 64)


def test_what_cannot_be_packed_is_refused(folder, tmp_path):
    out = tmp_path / "shards"
    _pack(folder, out)
    with pytest.raises(InputError, match="another folder"):
        plan_shards(list_images(folder), out, 2**30)
    with pytest.raises(InputError, match="another folder"):
        plan_shards(list_images(folder), folder, SMALL)
    (folder / "5.left.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(InputError, match=r"5\.jpg.*5\.left\.png|5\.left\.png.*5\.jpg"):
        plan_shards(list_images(folder), tmp_path / "new", SMALL)
    (folder / "5.left.png").rename(folder / ".left.png")
    with pytest.raises(InputError, match="hidden"):
        plan_shards(list_images(folder), tmp_path / "new", SMALL)
