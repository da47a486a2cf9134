"""The yardsticks behind the claims, and one small run of all of them."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from commands import run as command
from networks import PLAIN, make_network

from iqpbfr_core import load_metric
from iqpbfr_core.adapters import new_adapter
from iqpbfr_core.degradation import gaussian_blur
from iqpbfr_core.errors import CheckpointError, InputError, MetricError
from iqpbfr_core.evaluation.evidence import CLAIMS, prepare
from iqpbfr_core.evaluation.evidence.discreteness import share_better
from iqpbfr_core.evaluation.landmarks import FiveLandmarks
from iqpbfr_core.evaluation.likeness import IdentityJudge
from iqpbfr_core.evaluation.spectrum import out_of_band
from iqpbfr_core.evaluation.statistics import bootstrap, mean_interval, spearman
from iqpbfr_core.faces.alignment import TEMPLATE
from iqpbfr_core.image import write_image
from iqpbfr_core.restorer import Restorer
from iqpbfr_core.training.presets import TINY


def test_spearman_is_rank_correlation_with_ties():
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for _ in range(5):
        x, y = random.integers(0, 6, 20).astype(float), random.normal(size=20)
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert spearman(np.arange(5.0), np.arange(5.0) ** 3) == pytest.approx(1)
    assert spearman(np.arange(5.0), np.ones(5)) == 0


def test_bootstrap_encloses_the_mean_narrows_with_faces_and_is_seeded():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(values, np.mean, seed=1)
    assert low < values.mean() < high
    assert (low, high) == bootstrap(values, np.mean, seed=1)
    few = bootstrap(values[:20], np.mean, seed=1)
    assert few[1] - few[0] > high - low
    assert mean_interval(np.array([np.nan, 1.0, 1.0])) == "1.0000 [1.0000, 1.0000]"
    assert mean_interval(np.array([np.nan])) == "-"


def test_out_of_band_energy_rises_with_noise_and_falls_with_blur(faces):
    noise = 0.1 * torch.randn(faces.shape, generator=torch.Generator().manual_seed(0))
    blurred = gaussian_blur(faces, [(2.0, 2.0)] * 3, [0.0] * 3)
    same, more, less = (out_of_band(x, faces) for x in (faces, (faces + noise).clamp(0, 1), blurred))
    torch.testing.assert_close(same, torch.ones(3, dtype=torch.float64))
    assert (more > 1.5).all()
    assert (less < 1).all()


def test_shares_know_which_way_is_better_and_leave_out_faces_without_a_score():
    ours = {
        "out-of-band energy": np.array([1.0, 1.0]),
        "PSNR dB": np.array([9.0, 9.0]),
        "piqe": np.array([0.6, np.nan]),
    }
    theirs = {"out-of-band energy": np.array([2.0, 3.0]), "PSNR dB": np.array([8.0, 9.5]), "piqe": np.array([0.5, 0.9])}
    assert share_better(ours, theirs) == {"out-of-band energy": 1.0, "PSNR dB": 0.5, "piqe": 1.0}


def test_wrong_landmark_weights_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        FiveLandmarks(tmp_path / "a.pth")


@pytest.fixture
def folder(tmp_path, faces):
    for index, face in enumerate(faces[:2]):
        write_image(face, tmp_path / "faces" / "test" / f"{index}.png")
    return tmp_path / "faces"


class PixelJudge:
    """Stands for a face recogniser and for a perceptual distance."""

    def distance(self, images, references):
        return (images - references).abs().mean((1, 2, 3))


@pytest.mark.parametrize("claim", [name for name, _ in CLAIMS])
def test_a_claim_has_a_verdict_a_table_and_a_value_per_face(claim, tiny, folder, monkeypatch):
    monkeypatch.setattr("iqpbfr_core.evaluation.evidence.discreteness.BUDGETS", (1, 2))
    metrics = {name: load_metric(name) for name in ("builtin", "piqe")}
    judge = PixelJudge()
    files = sorted((folder / "test").iterdir())
    plain = Restorer(make_network(PLAIN))
    adapter = new_adapter(plain) if claim == "R5" else None
    restorer = plain if adapter else tiny
    single = dataclasses.replace(TINY, num_codes=2 * TINY.num_codes, num_hq_codes=0)
    rivals = tuple(Restorer(make_network(c)) for c in (single, dataclasses.replace(TINY, residual_hq=False)))
    told = []
    scene = prepare(
        restorer, files, metrics, "builtin", 0, None, judge, judge, adapter, rivals, lambda *now: told.append(now)
    )
    assert scene.judges == ["piqe"]
    finding = dict(CLAIMS)[claim](scene)
    assert finding.claim == claim
    assert isinstance(finding.holds, bool)
    assert {len(row) for row in finding.table} == {len(finding.table[0])}
    assert all(len(values) == 2 for values in finding.values.values())
    assert all(picture.ndim == 3 for picture in finding.pictures.values())
    assert told
    assert all(done <= total for _, done, total in told)


def test_the_command_writes_table_values_and_pictures(tmp_path, folder, tiny_file):
    options = ["--data", folder, "--model", tiny_file, "-o", tmp_path / "out", "--device", "cpu"]
    result = command("evidence", "R2", *options)
    assert result.returncode == 0, result.stderr
    assert "hold" in (tmp_path / "out" / "R2.md").read_text()
    assert (tmp_path / "out" / "r2_faces.jpg").exists()
    assert len(list(csv.reader((tmp_path / "out" / "R2.csv").open()))) == 3


@pytest.mark.parametrize(
    ("claim", "said"),
    [("R9", "R1, R2, R3, R4, R5, R6"), ("R3", "--rival"), ("R6", "face recogniser"), ("R5", "needs a score adapter")],
)
def test_a_claim_that_cannot_be_computed_is_refused(claim, said, tmp_path, folder, tiny_file):
    refused = command("evidence", claim, "--data", folder, "--model", tiny_file, "-o", tmp_path / "out")
    assert refused.returncode == 2
    assert said in refused.stderr


def test_only_equal_models_of_different_codebooks_are_compared(tiny, folder):
    judge, files = PixelJudge(), sorted((folder / "test").iterdir())
    metrics = {"builtin": load_metric("builtin")}
    smaller = (Restorer(make_network(PLAIN)),)
    scene = prepare(tiny, files, metrics, "builtin", seed=0, likeness=judge, rivals=smaller)
    with pytest.raises(InputError, match="64 codes"):
        dict(CLAIMS)["R3"](scene)
    twins = prepare(tiny, files, metrics, "builtin", seed=0, likeness=judge, rivals=(tiny,))
    with pytest.raises(InputError, match="one model of each kind"):
        dict(CLAIMS)["R3"](twins)
    single = prepare(smaller[0], files, metrics, "builtin", seed=0, likeness=judge, rivals=smaller)
    with pytest.raises(InputError, match="about two codebooks"):
        dict(CLAIMS)["R3"](single)


def test_a_batch_scores_as_its_faces_alone_and_one_that_fails_costs_only_itself(tiny, folder):
    class Fussy:
        def __call__(self, images):
            if (images.amax((1, 2, 3)) == 0).any():
                raise MetricError("a black picture")
            return images.mean((1, 2, 3))

    scene = prepare(tiny, sorted((folder / "test").iterdir()), {"fussy": Fussy()}, "fussy", seed=0)
    images = torch.rand(3, 3, 16, 16)
    images[1] = 0
    scores = scene.score("fussy", images)
    assert np.isnan(scores).tolist() == [False, True, False]
    assert scores[2] == pytest.approx(images[2].mean().item())


def test_the_person_is_judged_on_a_chip_with_the_eyes_in_their_place(tmp_path):
    class Chip(torch.nn.Module):
        def forward(self, chips):
            return chips.mean(1).flatten(1)

    torch.jit.script(Chip()).save(str(tmp_path / "chip.ts"))
    judge = IdentityJudge(tmp_path / "chip.ts")
    face = torch.zeros(1, 3, 512, 512)
    for x, y in TEMPLATE[:2].tolist():
        face[..., round(512 * y) - 2 : round(512 * y) + 2, round(512 * x) - 2 : round(512 * x) + 2] = 1
    chip = judge._embed(face).reshape(150, 150)
    bright = (chip > 100).nonzero().float()
    left, right = (bright[bright[:, 1] < 75].mean(0), bright[bright[:, 1] > 75].mean(0))
    torch.testing.assert_close(left, torch.tensor([47.1, 47.7]), atol=1.0, rtol=0)
    torch.testing.assert_close(right, torch.tensor([47.1, 100.3]), atol=1.0, rtol=0)
    (tmp_path / "bad.ts").write_bytes(b"no")
    with pytest.raises(InputError, match=r"bad\.ts"):
        IdentityJudge(tmp_path / "bad.ts")
