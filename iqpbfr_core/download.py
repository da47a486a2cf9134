"""Weight files that others have published: fetched only on request, whole and as published, or not at all."""

import hashlib
import os
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import URLError

from .errors import CheckpointError, OutputError, WeightsNotFoundError, first_line

Progress = Callable[[int, int], None]  # called with (bytes done, bytes in all; 0 if nobody knows); may raise to cancel

_CHUNK = 1 << 20
_PATIENCE = 30  # seconds without a byte


@dataclass(frozen=True)
class WeightFile:
    """A published file: its name and address, and size in bytes and SHA-256 as far as they are known."""

    name: str
    url: str
    num_bytes: int = 0
    sha256: str = ""

    @property
    def title(self) -> str:
        """Its name, with its size where it is known."""
        return f"{self.name} ({self.num_bytes / 1e6:.0f} MB)" if self.num_bytes else self.name


def fetch(file: WeightFile, folder: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """Download `file` into `folder`, which is made if it is not there; returns the path.

    `progress` is told about every megabyte. Whatever it raises cancels the download and leaves nothing behind.

    Raises:
        WeightsNotFoundError: the server cannot be reached, or does not have the file.
        CheckpointError: what came is not the file that was published.
        OutputError: there is no space, or no permission to write.
    """
    target = Path(folder) / file.name
    partial = target.with_name(f".{file.name}.part")
    try:
        with _request(file, target.parent) as source:
            total = int(source.headers.get("Content-Length") or file.num_bytes)
            target.parent.mkdir(parents=True, exist_ok=True)
            _check_space(target.parent, file, total)
            with open(partial, "wb") as out:
                count, digest = _copy(source, out, total, file, progress)
        if count != (file.num_bytes or total or count) or digest != (file.sha256 or digest):
            raise CheckpointError(
                f"{file.url} is not the file that was released ({count} bytes, SHA-256 {digest[:8]}…, expected "
                f"{file.num_bytes or total}, {file.sha256[:8] or 'any'}…); it was not kept. Try again later."
            )
        os.replace(partial, target)
    except OSError as error:
        if isinstance(error, OutputError | WeightsNotFoundError):
            raise
        raise OutputError(f"{target}: could not be written ({error.strerror or error}).") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _request(file: WeightFile, folder: Path) -> HTTPResponse:
    request = urllib.request.Request(file.url, headers={"User-Agent": "iqpbfr"})
    try:
        answer = urllib.request.urlopen(request, timeout=_PATIENCE)
    except OSError as error:  # URLError and timeouts are OSErrors, too
        raise _unreachable(file, folder, error) from error
    if answer.headers.get_content_type() == "text/html":
        answer.close()
        raise WeightsNotFoundError(f"{file.url} answers with a web page instead of {file.name}. Get it in a browser.")
    return answer


def _unreachable(file: WeightFile, folder: Path, error: Exception) -> WeightsNotFoundError:
    reason = error.reason if isinstance(error, URLError) else first_line(error)
    return WeightsNotFoundError(
        f"{file.name} could not be downloaded from {file.url} to {folder} ({reason}). Go online, or copy the file there."
    )


def _check_space(folder: Path, file: WeightFile, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"{file.name} needs {needed / 1e6:.0f} MB, and {folder} has {free / 1e6:.0f} MB left. Make room, or choose "
            "a folder on another disk."
        )


def _copy(
    source: HTTPResponse, out: BinaryIO, total: int, file: WeightFile, progress: Progress | None
) -> tuple[int, str]:
    """All bytes of `source` to `out`; returns how many, and their SHA-256."""
    count, digest = 0, hashlib.sha256()
    while True:
        try:
            chunk = source.read(_CHUNK)
        except OSError as error:
            raise _unreachable(file, Path(out.name).parent, error) from error
        if not chunk:
            return count, digest.hexdigest()
        out.write(chunk)
        digest.update(chunk)
        count += len(chunk)
        if progress is not None:
            progress(count, total)
