"""Training faces in WebDataset shards: plain .tar files of pictures, on as many disks as it takes.

A shard is indexed by one pass over its headers and then read at random, a face at a time, by the standard library's
`tarfile`; the library `webdataset` streams. A stream shuffles in a buffer and divides whole shards among workers, so
what step n sees depends on their number, and going on at step n means reading up to it. With an index a face in a shard
is as good as a file in a folder: sample n is the same, for one process or several, from the start or after a stop.
The price is a seek per face, which disks and mounted network folders bear and object stores do not.
"""

import io
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from ..errors import InputError, first_line
from ..image import IMAGE_SUFFIXES, decode_image, replacing

SUFFIX = ".tar"
_BLOCK = tarfile.BLOCKSIZE
_MOST_PADDING = 2**20  # after the end mark; tar pads to 10 KiB unless told otherwise
_NUMBERED = re.compile(r"(.*?)(\d{4,})(?:-of-(\d{4,}))?")  # faces-00003-of-00012, or ffhq-000003


@dataclass(frozen=True)
class ShardedImage:
    """A picture inside a shard: its bytes are `size` many from `offset` on."""

    shard: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    def read(self) -> Tensor:
        """The picture (1, 3, H, W) in [0, 1], as `read_image` reads files."""
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            return decode_image(file.read(self.size), str(self))


def has_shards(folder: Path) -> bool:
    """Whether there is a .tar file in `folder`."""
    return any(path.suffix.lower() == SUFFIX for path in folder.iterdir())


def list_shards(folder: Path) -> list[ShardedImage]:
    """The pictures in all shards of a folder, sorted by name as those of a folder are, whichever shard they are in.

    Raises:
        InputError: a shard is missing, cut short or damaged, holds something else than pictures, or a picture is there
            twice.
    """
    shards = sorted(path for path in folder.iterdir() if path.suffix.lower() == SUFFIX)
    _check_complete(shards)
    found: dict[str, ShardedImage] = {}
    for shard in shards:
        for image in _index(shard):
            key = _key(image.name)
            if key in found:
                raise InputError(f"{found[key]} and {image} are the same sample: take one of them out.")
            found[key] = image
    if not found:
        raise InputError(f"{folder}: no images in the {len(shards)} shards of this folder.")
    return sorted(found.values(), key=lambda image: PurePosixPath(image.name))


def _check_complete(shards: list[Path]) -> None:
    """Raise InputError where the numbers in the names of shards show that some are missing."""
    sets: dict[tuple[str, str | None], set[int]] = {}
    for shard in shards:
        if match := _NUMBERED.fullmatch(shard.stem):
            sets.setdefault((match[1], match[3]), set()).add(int(match[2]))
    for (name, total), numbers in sets.items():
        expected = range(min(numbers), max(numbers) + 1) if total is None else range(int(total))
        if missing := sorted(set(expected) - numbers):
            raise InputError(
                f"{shards[0].parent}: of the {len(expected)} shards {name}*{SUFFIX}, {len(missing)} are missing "
                f"(number {missing[0]} is the first). Bring them, or rename what is to do without."
            )


def _index(shard: Path) -> list[ShardedImage]:
    """Where the pictures of a shard are, after a look at every header; nothing else may be in it."""
    images = []
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse() or not _is_picture(member.name):
                    raise InputError(
                        f"{shard} holds {member.name}, which is no picture ({', '.join(IMAGE_SUFFIXES)}). "
                        "`iqpbfr pack` makes shards of a folder's pictures alone."
                    )
                images.append(ShardedImage(shard, member.name, member.offset_data, member.size))
            end = archive.offset
        with open(shard, "rb") as file:
            file.seek(end)
            rest = file.read(_MOST_PADDING + 1)
    except (tarfile.TarError, OSError) as error:
        raise InputError(
            f"{shard}: not a readable shard ({first_line(error)}). It must be a plain, uncompressed tar; "
            "copy or pack it again."
        ) from error
    # tarfile takes a file that was cut between two pictures, or a header of nonsense, for the end.
    if not _BLOCK <= len(rest) <= _MOST_PADDING or any(rest):
        raise InputError(f"{shard} is cut short or damaged after {len(images)} pictures: copy or pack it again.")
    return images


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _key(name: str) -> str:
    """What WebDataset tells samples apart by: the path up to the first dot of the file's name."""
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0]))


def plan_shards(files: Sequence[Path], out: Path, size: int) -> dict[Path, list[Path]]:
    """Which pictures go into which shard of the folder `out`, in their order; a shard has about `size` bytes.

    Raises:
        InputError: two pictures would be one sample, or `out` holds pictures or other shards.
    """
    names: dict[str, Path] = {}
    for file in files:
        if file.name.startswith("."):
            raise InputError(f"{file}: WebDataset leaves hidden files out; rename or remove it.")
        other = names.setdefault(_key(file.name), file)
        if other is not file:
            raise InputError(
                f"{other} and {file} have one name up to the first dot, so one sample: rename one of them."
            )
    groups, filled = [[]], 0
    for file in files:
        taken = _BLOCK + -(-file.stat().st_size // _BLOCK) * _BLOCK
        if groups[-1] and filled + taken > size:
            groups.append([])
            filled = 0
        groups[-1].append(file)
        filled += taken
    plan = {out / f"faces-{n:05d}-of-{len(groups):05d}{SUFFIX}": group for n, group in enumerate(groups)}
    for path in out.iterdir() if out.is_dir() else ():
        if path.suffix.lower() in (SUFFIX, *IMAGE_SUFFIXES) and path not in plan:
            raise InputError(f"{path} is no shard of these pictures: choose another folder for them.")
    return plan


def write_shard(files: Sequence[Path], shard: Path) -> None:
    """Write picture files into one shard, byte by byte as they are; the same files always give the same shard."""
    with replacing(shard) as temporary, tarfile.open(temporary, "w") as archive:
        for file in files:
            try:
                content = file.read_bytes()
            except OSError as error:
                raise InputError(f"{file}: could not be read ({error.strerror or error}).") from error
            member = tarfile.TarInfo(file.name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
