"""`iqpbfr restore` on videos, and on photos that are enlarged: frames, sound and what a kill leaves."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run
from PIL import Image

from iqpbfr_core.cli import restore, videos
from iqpbfr_core.faces.face import Faces
from iqpbfr_core.video import join_parts, read_frames, write_part

av = pytest.importorskip("av")
RATE = Fraction(30000, 1001)
# How a track of an MP4 is turned when it is shown, in its header: not at all, and by a quarter clockwise.
_ONE = 1 << 16
_MATRICES = (_ONE, 0, 0, 0, _ONE, 0, 0, 0, 1 << 30), (0, _ONE, 0, -_ONE, 0, 0, 0, 0, 1 << 30)
POINTS = torch.tensor([[(0.38, 0.47), (0.62, 0.47), (0.5, 0.61), (0.39, 0.73), (0.61, 0.73)]])
PICTURES = Path(__file__).parents[2] / "pictures"


def write_video(path, frames, colorspace=1, pix_fmt="yuv420p"):
    """A video of PIL pictures, with a tone."""
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("libx264", rate=RATE)
        pictures.width, pictures.height, pictures.pix_fmt = *frames[0].size, pix_fmt
        pictures.codec_context.colorspace = colorspace
        sound = file.add_stream("aac", rate=44100, layout="mono")
        for frame in frames:
            picture = av.VideoFrame.from_image(frame)
            file.mux(pictures.encode(picture.reformat(format=pix_fmt, dst_colorspace=colorspace)))
        file.mux(pictures.encode())
        tone = np.sin(np.arange(int(44100 * len(frames) / RATE)) * 0.06).astype(np.float32)[None] / 3
        samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        samples.sample_rate = 44100
        file.mux(sound.encode(samples))
        file.mux(sound.encode())
    return path


def sound_of(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(file.streams.audio[0]) if packet.dts is not None]


def times_of(path):
    return [float(frame.time * frame.unit) for frame in read_frames(path)]


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """Seven frames in which a face moves over black, and a detector that finds what is not black."""

    def find(images, confidence):
        inside = (images[0].mean(0) > 0.2).nonzero()
        (top, left), (bottom, right) = inside.amin(0).tolist(), inside.amax(0).tolist()
        corner, size = torch.tensor((left, top)), torch.tensor((right - left, bottom - top))
        box = torch.tensor([[left, top, right, bottom]]).float()
        return Faces(box, corner + POINTS * size, torch.ones(1), torch.zeros(1).long(), tuple(images.shape[2:]))

    monkeypatch.setattr(restore, "load_detector", lambda *_, **__: find)
    face = Image.open(PICTURES / "face.png").convert("RGB").resize((60, 60))
    frames = [Image.new("RGB", (120, 90)) for _ in range(7)]
    for number, frame in enumerate(frames):
        frame.paste(face, (10 + 4 * number, 20))
    return write_video(tmp_path / "clip.mp4", frames)


def kill_in_part(name, patch):
    """Let `restore` die while it writes this part."""

    def write(path, frames, like):
        if path.stem == name:
            next(iter(frames))
            raise KeyboardInterrupt
        write_part(path, frames, like)

    patch.setattr(videos, "write_part", write)


def test_a_killed_video_goes_on_to_the_same_result(tmp_path, clip, tiny_file, monkeypatch):
    monkeypatch.setattr(videos, "PART", 3)
    monkeypatch.setattr(videos, "_AT_ONCE", 2)
    base = ("restore", clip, "--model", tiny_file, "--device", "cpu")
    assert "faces restored in 7 of 7 frames" in run(*base, "-o", tmp_path / "whole").stdout
    result = tmp_path / "whole" / "clip.mp4"
    assert list(result.parent.iterdir()) == [result]
    before, after = ([frame.pixels for frame in read_frames(path)] for path in (clip, result))
    changed = [((a - b).abs().mean(1) > 0.1).float().mean() for a, b in zip(before, after, strict=True)]
    assert all(0.01 < share < 0.3 for share in changed)
    assert times_of(clip) == times_of(result)
    assert sound_of(clip) == sound_of(result)

    again = tmp_path / "again" / "clip.mp4"
    with monkeypatch.context() as patch:
        kill_in_part("00001", patch)
        assert run(*base, "-o", again.parent).returncode != 0
    assert not again.exists()
    written = []
    with monkeypatch.context() as patch:
        patch.setattr(videos, "write_part", lambda path, *more: written.append(path.stem) or write_part(path, *more))
        assert run(*base, "-o", again.parent, "--resume").returncode == 0
    assert written == ["00001", "00002"]
    assert again.read_bytes() == result.read_bytes()


def test_subtitles_come_along_and_what_is_lost_is_said(tmp_path, clip, tiny_file):
    (tmp_path / "words.srt").write_text("1\n00:00:00,050 --> 00:00:00,150\nGood evening\n")
    files = [tmp_path / "in" / name for name in ("same.mkv", "other.webm")]
    files[0].parent.mkdir()
    frames = [frame.to_image() for frame in av.open(str(clip)).decode(video=0)]
    deep = write_video(tmp_path / "deep.mp4", frames, pix_fmt="yuv420p10le")
    for file in files:
        with (
            av.open(str(deep)) as old,
            av.open(str(tmp_path / "words.srt")) as text,
            av.open(str(file), "w", format="matroska") as new,
        ):
            targets = {stream: new.add_stream_from_template(stream) for stream in (*old.streams, *text.streams)}
            for packet in (*text.demux(), *old.demux()):
                if packet.dts is not None:
                    packet.stream = targets[packet.stream]
                    new.mux(packet)
    done = run("restore", *files, "--model", tiny_file, "--device", "cpu", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    same, other = sorted(done.stdout.splitlines(), key=lambda line: "other" in line)
    assert same.endswith("in 7 of 7 frames, 10 bits a channel became 8")
    assert other.endswith("10 bits a channel became 8, subtitles are left out")
    with av.open(str(tmp_path / "out" / "same.mkv")) as kept:
        (line,) = (bytes(packet) for packet in kept.demux(kept.streams.subtitles[0]) if packet.dts is not None)
    assert line == b"Good evening"


def test_parts_made_with_other_options_are_made_anew(tmp_path, clip, tiny_file, monkeypatch):
    monkeypatch.setattr(videos, "PART", 4)
    base = ("restore", clip, "--model", tiny_file, "--device", "cpu", "-o", tmp_path / "out")
    with monkeypatch.context() as patch:
        kill_in_part("00001", patch)
        assert run(*base).returncode != 0
    assert "begun anew, since options differ" in run(*base, "--resume", "--visibility", 0).stderr
    before, after = ([frame.pixels for frame in read_frames(path)] for path in (clip, tmp_path / "out" / "clip.mp4"))
    assert all((a - b).abs().mean() < 0.02 for a, b in zip(before, after, strict=True))


def test_videos_without_a_face_are_copied_and_broken_ones_stop_nothing(tmp_path, tiny_file):
    sky = write_video(tmp_path / "sky.mov", [Image.new("RGB", (64, 48), (40, 90, 200))] * 3)
    (tmp_path / "broken.mp4").write_bytes(sky.read_bytes()[:400])
    (tmp_path / "text.mkv").write_text("no video")
    files = [tmp_path / name for name in ("broken.mp4", "text.mkv", "sky.mov")]
    result = run("restore", *files, "-o", tmp_path / "out", "--model", tiny_file, "--device", "cpu")
    assert result.returncode == 1
    assert "2 of 3 failed" in result.stderr
    assert {p.name for p in (tmp_path / "out").iterdir() if p.is_file()} == {"sky.mov"}
    assert (tmp_path / "out" / "sky.mov").read_bytes() == sky.read_bytes()
    for option in (("--skip-above", "0.5"), ("--background", tmp_path)):
        result = run("restore", sky, "-o", tmp_path / "out", "--model", tiny_file, *option)
        assert result.returncode == 2
        assert option[0] in result.stderr


@pytest.mark.parametrize("colorspace", [1, 5])
@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_colours_times_and_odd_sizes_survive_being_written(tmp_path, size, colorspace):
    colours = Image.effect_noise((8, 6), 90).convert("RGB").resize(size)
    colours.paste((200, 30, 60), (0, 0, 30, 20))
    even = colours.resize((64, 48))
    source = write_video(tmp_path / "in.mkv", [even] * 6, colorspace=colorspace)
    frames = list(read_frames(source))
    assert len(frames) == 6
    given = [replace(frame, pixels=frame.pixels[..., : size[1], : size[0]]) for frame in frames]
    parts = [tmp_path / "0.nut", tmp_path / "1.nut"]
    write_part(parts[0], given[:4], source)
    write_part(parts[1], given[4:], source)
    join_parts(parts, source, tmp_path / "out.mkv")
    written = list(read_frames(tmp_path / "out.mkv"))
    assert [float(f.time * f.unit) for f in written] == [float(f.time * f.unit) for f in frames]
    difference = torch.stack([a.pixels - b.pixels for a, b in zip(given, written, strict=True)])
    assert difference.abs().mean() < 0.02
    assert difference.mean().abs() < 1 / 255 / 2, "a generation makes it darker"


def test_phone_videos_are_upright(tmp_path):
    upright = Image.new("RGB", (48, 64), "black")
    upright.paste("white", (0, 0, 48, 20))
    source = write_video(tmp_path / "in.mp4", [upright.transpose(Image.Transpose.ROTATE_90)] * 2)
    content = source.read_bytes()
    as_is, turned = (b"".join(number.to_bytes(4, "big", signed=True) for number in matrix) for matrix in _MATRICES)
    track = content.index(b"tkhd")
    source.write_bytes(content[:track] + content[track:].replace(as_is, turned, 1))
    frame = next(read_frames(source)).pixels
    assert tuple(frame.shape) == (1, 3, 64, 48)
    assert frame[..., :16, :].mean() > 0.9
    assert frame[..., 24:, :].mean() < 0.1
