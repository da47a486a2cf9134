"""The comparison of restorers: everybody measured alike, nothing counted twice, what does not fit named."""

import csv
import json
import shutil

import numpy as np
import pytest
import scipy.linalg
import torch
import torchvision

from iqpbfr_core.errors import CheckpointError, InputError, MetricError, WeightsNotFoundError
from iqpbfr_core.evaluation.comparison import Case, Model, Results, check_settings, column, compare, pair
from iqpbfr_core.evaluation.frechet import FID, frechet_distance, read_statistics
from iqpbfr_core.evaluation.landmarks import DenseLandmarks, peaks
from iqpbfr_core.evaluation.measures import PSNR, SSIM, Measure, by_lpips
from iqpbfr_core.evaluation.published import SETS
from iqpbfr_core.evaluation.report import Value, summarise, write_report
from iqpbfr_core.image import read_image, write_image
from iqpbfr_core.pyiqa_metrics import load_inception, load_lpips

BRIGHTNESS = Measure("brightness", "brightness", False, False, lambda images, _: images.mean((1, 2, 3)).tolist())
MEASURES = [PSNR, SSIM, BRIGHTNESS]


@pytest.fixture
def originals(tmp_path, faces):
    for index, face in enumerate(faces):
        write_image(face, tmp_path / "faces" / f"{index}.png")
    return sorted((tmp_path / "faces").iterdir())


@pytest.fixture
def entrants(tiny, originals, tmp_path):
    theirs = tmp_path / "theirs"
    shutil.copytree(originals[0].parent, theirs)
    files = {file.stem: file for file in theirs.iterdir()}
    return [Model("ours", tiny, tiny.settings(1.0, 0.0, None)), Results("theirs", files)]


def test_everybody_is_measured_on_the_same_faces_and_reported(originals, entrants, tmp_path):
    found = compare(pair(originals, []), entrants, MEASURES, tmp_path / "out", 64, batch_size=2)
    assert list(found) == ["degraded", "ours", "theirs", "original"]
    assert np.isinf(column(found["theirs"], "psnr")).all()  # the very originals
    for name, scores in found.items():
        for face, values in scores.items():
            kept = read_image(tmp_path / "out" / "faces" / name / f"{face}.png")
            assert values["brightness"] == pytest.approx(kept.mean().item(), rel=1e-4)
    summary = summarise(found, MEASURES)
    assert summary["original"]["psnr"] is None
    assert summary["ours"]["ssim"].mean == pytest.approx(column(found["ours"], "ssim").mean())
    write_report(tmp_path / "out", "three <faces>", found, summary, MEASURES, SETS[0])
    text = (tmp_path / "out" / "table.md").read_text()
    assert "CodeFormer" in text
    assert SETS[0].source in text
    assert json.loads((tmp_path / "out" / "table.json").read_text())["ours"]["psnr"]["mean"] > 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "three &lt;faces&gt;" in page
    assert SETS[0].source in page
    assert f"<td>{SETS[0].numbers['CodeFormer']['fid']}</td>" in page
    # A dot for each face by each measure; PSNR has none for the originals, nor for results that are the originals.
    assert page.count("<circle") == 3 * (2 + 4 + 4)
    with open(tmp_path / "out" / "table.csv", newline="") as file:
        assert {row["entrant"] for row in csv.DictReader(file)} == set(found)


def test_a_stopped_comparison_goes_on_and_restores_nothing_twice(originals, entrants, tmp_path):
    class Counting:
        name = "ours"

        def __init__(self, after):
            self.seen, self.after = [], after

        def restore(self, lq, cases):
            if len(self.seen) >= self.after:
                raise KeyboardInterrupt
            self.seen += [case.name for case in cases]
            return entrants[0].restore(lq, cases)

    cases = pair(originals, [])
    with pytest.raises(KeyboardInterrupt):
        compare(cases, [Counting(2)], MEASURES, tmp_path / "out", 64, batch_size=2)
    second = Counting(9)
    found = compare(cases, [second], MEASURES, tmp_path / "out", 64, batch_size=2)
    assert second.seen == ["2"]
    whole = compare(cases, [entrants[0]], MEASURES, tmp_path / "whole", 64, batch_size=2)
    np.testing.assert_allclose(column(found["ours"], "psnr"), column(whole["ours"], "psnr"), rtol=1e-5)
    assert len(found["ours"]) == 3


def test_faces_without_an_original_have_no_distance_to_it(originals, entrants, tmp_path):
    found = compare(pair([], originals), [entrants[0]], MEASURES, tmp_path / "out", 64)
    assert list(found) == ["degraded", "ours"]
    assert np.isnan(column(found["ours"], "psnr")).all()
    assert np.isfinite(column(found["ours"], "brightness")).all()
    assert summarise(found, MEASURES)["ours"]["psnr"] is None


def test_faces_that_do_not_pair_are_named(originals, tmp_path):
    with pytest.raises(InputError, match=r"in one folder only \(2\)"):
        pair(originals, originals[:2])
    (tmp_path / "faces" / "0.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="same name"):
        pair([*originals, tmp_path / "faces" / "0.jpg"], [])


def test_results_that_are_missing_or_of_another_size_are_named(originals, entrants, tmp_path):
    few = Results("few", {"0": originals[0]})
    with pytest.raises(InputError, match="few has no result for 1"):
        compare(pair(originals, []), [few], MEASURES, tmp_path / "a", 64)
    write_image(torch.zeros(3, 32, 32), originals[1])
    with pytest.raises(InputError, match="32x32"):
        compare([Case("0", originals[0], None)], [Results("small", {"0": originals[1]})], MEASURES, tmp_path / "b", 64)
    with pytest.raises(InputError, match="all must be alike"):
        compare(pair(originals, []), [], MEASURES, tmp_path / "c", 64)


def test_a_folder_is_not_gone_on_with_in_another_way(originals, entrants, tmp_path):
    check_settings(tmp_path / "out", {"seed": 0})
    check_settings(tmp_path / "out", {"seed": 0})
    with pytest.raises(InputError, match="another seed"):
        check_settings(tmp_path / "out", {"seed": 1})
    compare(pair(originals, []), [], MEASURES, tmp_path / "out", 64)
    with pytest.raises(InputError, match="other measures"):
        compare(pair(originals, []), [], [PSNR], tmp_path / "out", 64)
    with pytest.raises(InputError, match="one name"):
        compare(pair(originals, []), [entrants[0], entrants[0]], MEASURES, tmp_path / "other", 64)


def test_weights_that_are_missing_are_named(tmp_path):
    for load, name in ((load_lpips, "LPIPS_v0.1_alex"), (load_inception, "pt_inception")):
        with pytest.raises(WeightsNotFoundError, match=name):
            load(tmp_path)


@torch.no_grad()
def lpips_of_the_paper(trunk, layers, first, second):
    """Zhang et al. 2018, arXiv 1801.03924, equation 1: weighted squares of differences of unit-length features, their
    means over places, the sum over layers; ImageNet's normalisation as in the authors' code.
    """
    network = torchvision.models.alexnet(weights=None).features
    network.load_state_dict({key.removeprefix("features."): v for key, v in trunk.items() if "features" in key})
    mean, deviation = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, total = (torch.cat((first, second)) - mean) / deviation, torch.zeros(len(first))
    for number, layer in enumerate(network):
        x = layer(x)
        if number in (1, 4, 7, 9, 11):  # the five ReLUs
            a, b = torch.nn.functional.normalize(x, dim=1).chunk(2)
            total += ((a - b).square() * layers[(1, 4, 7, 9, 11).index(number)]).sum(1).mean((1, 2))
    return total


def test_lpips_is_made_of_both_of_its_files(tmp_path, faces):
    torch.manual_seed(0)
    trunk = torchvision.models.alexnet(weights=None).state_dict()
    torch.save({key: v for key, v in trunk.items() if "features" in key}, tmp_path / "alexnet-owt-7be5be79.pth")
    widths = (64, 192, 384, 256, 256)
    layers = {f"lin{number}.model.1.weight": torch.rand(1, width, 1, 1) for number, width in enumerate(widths)}
    torch.save(layers, tmp_path / "LPIPS_v0.1_alex-df73285e.pth")
    network = load_lpips(tmp_path)
    values = by_lpips(network).of(faces, faces.roll(1, 0))
    assert len(values) == 3
    assert min(values) > 0
    assert by_lpips(network).of(faces, faces) == [0, 0, 0]
    expected = lpips_of_the_paper(trunk, list(layers.values()), faces, faces.roll(1, 0))
    torch.testing.assert_close(torch.tensor(values), expected, atol=1e-5, rtol=1e-4)
    del layers["lin4.model.1.weight"]
    torch.save(layers, tmp_path / "LPIPS_v0.1_alex-df73285e.pth")
    with pytest.raises(MetricError, match="LPIPS_v0"):
        load_lpips(tmp_path)


@pytest.mark.parametrize("count", [200, 20])  # more pictures than features, and fewer: the covariance is singular
def test_fid_is_the_distance_of_its_formula(count):
    random = np.random.default_rng(0)
    sets = [random.normal(size=(count, 64)) @ random.normal(size=(64, 64)) + shift for shift in (0, 1)]
    first, second = ((features.mean(0), np.cov(features, rowvar=False)) for features in sets)
    root = scipy.linalg.sqrtm(first[1] @ second[1] + 0j).real
    expected = np.square(first[0] - second[0]).sum() + np.trace(first[1] + second[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6 * np.trace(first[1]))


@pytest.mark.slow
def test_98_landmarks_are_those_of_facexlib(tmp_path, faces, monkeypatch):
    theirs = pytest.importorskip("facexlib.alignment.awing_arch", reason="no facexlib: pip install facexlib")
    torch.manual_seed(0)
    network = theirs.FAN(num_modules=4, num_landmarks=98, device="cpu").eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "alignment_WFLW_4HG.pth")
    judge = DenseLandmarks(tmp_path / "alignment_WFLW_4HG.pth")
    picture = torch.nn.functional.interpolate(faces[:1], (256, 256), mode="bilinear")
    with torch.no_grad():
        torch.testing.assert_close(judge.network(picture), network(picture)[0][-1], atol=1e-4, rtol=1e-3)
    heat = torch.full((2, 98, 64, 64), -9.0)  # at the very edge, facexlib reads a place of another row
    heat[:, :, 1:-1, 1:-1].normal_()
    monkeypatch.setattr(np, "float", float, raising=False)  # it is written for an older NumPy
    expected = theirs.calculate_points(heat.numpy())
    torch.testing.assert_close(peaks(heat), torch.from_numpy(expected).float())
    judge.network = lambda inputs: torch.cat((heat, heat[:, :1]), 1)
    torch.testing.assert_close(judge.landmarks(faces[:2]), peaks(heat) * 8)  # in a face of 512 pixels


def test_another_network_is_no_finder_of_98_landmarks(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth.*face alignment"):
        DenseLandmarks(tmp_path / "other.pth")


def test_a_value_of_a_set_is_shown_without_an_interval(originals, entrants, tmp_path):
    found = compare(pair(originals, []), entrants[:1], MEASURES, tmp_path / "out", 64)
    summary = summarise(found, MEASURES)
    for name, cells in summary.items():
        cells[FID.name] = None if name == "original" else Value(12.5)
    write_report(tmp_path / "out", "faces", found, summary, [*MEASURES, FID], None)
    assert "| ours | " in (text := (tmp_path / "out" / "table.md").read_text())
    assert text.splitlines()[4].endswith("| 12.5 |")
    assert json.loads((tmp_path / "out" / "table.json").read_text())["ours"]["fid"] == {
        "mean": 12.5, "low": None, "high": None,
    }  # fmt: skip
    assert "ours,fid,12.5,,\n" in (tmp_path / "out" / "table.csv").read_text()
    assert "<h3>FID" not in (tmp_path / "out" / "index.html").read_text()


def test_what_is_no_file_of_statistics_is_refused(tmp_path):
    np.savez(tmp_path / "good.npz", mu=np.zeros(2048), sigma=np.zeros((2048, 2048), np.float32))
    assert read_statistics(tmp_path / "good.npz")[1].shape == (2048, 2048)
    np.savez(tmp_path / "small.npz", mu=np.zeros(3), sigma=np.zeros((3, 3)))
    (tmp_path / "text.npz").write_text("no statistics")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    for name in ("small", "text", "other", "missing"):
        with pytest.raises(InputError, match=name):
            read_statistics(tmp_path / f"{name}.npz")
