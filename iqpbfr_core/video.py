"""Video files by PyAV: upright frames as tensors, and new files with the timing, colours, sound and subtitles of the old one.

A new video is written in parts, each whole or not at all, that are joined without encoding anything again.
"""

import heapq
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, OutputError, first_line
from .extras import needs

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
PART_SUFFIX = ".nut"  # a container that keeps any frame's time exactly
_WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_QUALITY = {"crf": "16"}  # of H.264: hardly to be told from the original
_COLOURS = ("colorspace", "color_primaries", "color_trc")


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        pixels: (1, 3, H, W) float32 in [0, 1], upright.
        time: when it is shown, in units of `unit` seconds.
        unit: a fraction of a second.
    """

    pixels: Tensor
    time: int
    unit: Fraction


def output_suffix(suffix: str) -> str:
    """The format a video is written in: its own if that holds H.264, otherwise Matroska, which holds any sound."""
    return suffix if suffix.lower() in _WRITTEN else ".mkv"


def count_frames(path: str | os.PathLike[str]) -> int:
    """About how many frames a video has; 0 if the file does not say."""
    with _opened(path) as (_, stream):
        seconds = float((stream.duration or 0) * (stream.time_base or 0))
        return stream.frames or round(seconds * float(stream.average_rate or 0))


def lost_by_writing(path: str | os.PathLike[str]) -> list[str]:
    """What of a video a new one of ours does not have, in words that go on a sentence about it; [] if it has all."""
    with _opened(path) as (container, stream):
        coded = stream.codec_context.format
        bits = max((component.bits for component in coded.components), default=8) if coded is not None else 8
        losses = [f"{bits} bits a channel became 8"] if bits > 8 else []
        is_other = output_suffix(Path(path).suffix) != Path(path).suffix  # see join_parts
        return [*losses, "subtitles are left out"] if is_other and container.streams.subtitles else losses


def read_frames(path: str | os.PathLike[str]) -> Iterator[Frame]:
    """The frames of a video's first picture stream, in the order they are shown.

    Raises:
        InputError: the file cannot be read, has no pictures or breaks off in the middle, or its frames change size.
    """
    with _opened(path) as (container, stream):
        unit, last, size = Fraction(stream.time_base), -(2**62), None
        step = max(1, round(1 / (unit * (stream.average_rate or 25))))
        for decoded in container.decode(stream):
            pixels = _to_pixels(decoded)
            size = size or pixels.shape
            if pixels.shape != size:
                raise InputError(f"{path}: the frames change their size within the video; cut it where they do.")
            last = last + step if decoded.pts is None else max(decoded.pts, last + 1)
            yield Frame(pixels, last, unit)
        if size is None:
            raise InputError(f"{path}: not a frame of this video can be read.")


def write_part(path: Path, frames: Iterable[Frame], like: str | os.PathLike[str]) -> None:
    """Encode frames by H.264 into a part (PART_SUFFIX) of a video, with the colours' meaning that `like` has."""
    temporary = path.with_suffix(".part")
    with _opened(like) as (_, source), _written(temporary, "nut") as container:
        coded, colours = source.codec_context, {}
        if coded.format is not None and not coded.format.is_rgb:
            colours = {name: getattr(coded, name) for name in _COLOURS}
        stream: Any = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=source.average_rate or 25, options=dict(_QUALITY))
                stream.height, stream.width = frame.pixels.shape[2:]
                is_even = stream.height % 2 == 0 and stream.width % 2 == 0
                stream.pix_fmt = "yuv420p" if is_even else "yuv444p"
                stream.codec_context.time_base = frame.unit
                stream.codec_context.max_b_frames = 0  # so that parts follow each other in the order of their frames
                for name, value in colours.items():
                    setattr(stream.codec_context, name, value)
            picture = _to_picture(frame, stream.pix_fmt, colours.get("colorspace"))
            container.mux(stream.encode(picture))
        if stream is not None:
            container.mux(stream.encode())
    os.replace(temporary, path)


def join_parts(parts: Sequence[Path], source: str | os.PathLike[str], target: Path) -> None:
    """Write parts one after the other, with the sound of `source`, as one video, whole or not at all.

    Subtitles come along into the same format; another may not hold their kind.
    """
    temporary = target.with_name(f".{target.name}.part")
    with (
        _opened(source) as (original, _),
        _opened(parts[0]) as (_, first),
        _written(temporary, _WRITTEN[target.suffix.lower()]) as joined,
    ):
        joined.metadata.update(original.metadata)
        pictures = joined.add_stream_from_template(first)
        kept = list(original.streams.audio)
        if Path(source).suffix.lower() == target.suffix.lower():
            kept += original.streams.subtitles
        targets = {stream.index: joined.add_stream_from_template(stream) for stream in kept}
        packets = [_packets_of_parts(parts, pictures)]
        if kept:
            packets.append(_packets(original, kept, targets))
        for packet in heapq.merge(*packets, key=lambda packet: packet.dts * packet.time_base):
            joined.mux(packet)
    os.replace(temporary, target)


def _to_pixels(picture: Any) -> Tensor:
    turns = round(picture.rotation / 90)
    if not picture.format.is_rgb:  # from anything else FFmpeg rounds down: every generation of a video would be darker
        picture = picture.reformat(format="yuv444p")
    pixels = torch.from_numpy(picture.to_ndarray(format="rgb24")).permute(2, 0, 1)[None].float() / 255
    return pixels.rot90(turns, (2, 3)).contiguous()


def _to_picture(frame: Frame, pix_fmt: str, colorspace: int | None) -> Any:
    array = (frame.pixels[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = _av().VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
    picture = picture.reformat(format=pix_fmt, src_colorspace=colorspace, dst_colorspace=colorspace)
    picture.pts, picture.time_base = frame.time, frame.unit
    return picture


def _packets_of_parts(parts: Sequence[Path], pictures: Any) -> Iterator[Any]:
    for part in parts:
        with _opened(part) as (container, stream):
            yield from _packets(container, (stream,), {stream.index: pictures})


def _packets(container: Any, streams: Sequence[Any], targets: dict[int, Any]) -> Iterator[Any]:
    """What is encoded in some streams of a file, as it is to be written into others."""
    for packet in container.demux(*streams):
        if packet.dts is not None:  # the last one of each stream is empty
            packet.stream = targets[packet.stream.index]
            yield packet


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """A video file and its first picture stream; whatever makes it unreadable is an InputError."""
    av = _av()
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file." if not os.path.exists(path) else f"{path}: not a file.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: there are no pictures in this file.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as error:
        raise InputError(f"{path}: not a readable video, or it breaks off ({first_line(error)}).") from error


@contextmanager
def _written(path: Path, container_format: str) -> Iterator[Any]:
    """A new file; what cannot be written is an OutputError, and leaves nothing behind."""
    av = _av()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", format=container_format) as container:
            yield container
    except av.FFmpegError as error:
        path.unlink(missing_ok=True)
        raise OutputError(f"{path}: could not be written ({first_line(error)}).") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _av() -> Any:
    with needs("video", "reading and writing videos"):
        import av
    return av
