"""Downloads: whole and as published, or not at all."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from iqpbfr_core.download import WeightFile, fetch
from iqpbfr_core.errors import CheckpointError, OutputError, WeightsNotFoundError

CONTENT = bytes(range(256)) * 20_000  # five chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        sent = {"/cut.pth": CONTENT[: len(CONTENT) // 2], "/page.pth": b"<html>"}.get(self.path, CONTENT)
        self.send_response(404 if self.path == "/gone.pth" else 200)
        self.send_header("Content-Type", "text/html" if self.path == "/page.pth" else "application/octet-stream")
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def published():
    """Make a WeightFile of a local server by name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield lambda name, **known: WeightFile(name, f"{url}/{name}", **known)
    server.shutdown()


def test_file_is_there_whole_and_progress_was_told(published, tmp_path):
    told = []
    file = published("a.pth", num_bytes=len(CONTENT), sha256=SHA256)
    path = fetch(file, tmp_path / "new", lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert len(told) > 2


@pytest.mark.parametrize(
    ("name", "known", "error"),
    [
        ("gone.pth", {}, WeightsNotFoundError),
        ("page.pth", {}, WeightsNotFoundError),
        ("cut.pth", {}, CheckpointError),
        ("a.pth", {"num_bytes": 5}, CheckpointError),
        ("a.pth", {"sha256": "0" * 64}, CheckpointError),
    ],
)
def test_anything_else_is_not_kept(published, tmp_path, name, known, error):
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(error, match=name):
        fetch(published(name, **known), tmp_path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"old")]


def test_cancelling_leaves_nothing(published, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(published("a.pth"), tmp_path, stop)
    assert not list(tmp_path.iterdir())


def test_full_disk_is_found_out_before(published, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=r"5 MB.*Make room"):
        fetch(published("a.pth"), tmp_path)
    assert not list(tmp_path.iterdir())
