"""The comparison of restorers: everybody measured alike, nothing counted twice, what does not fit named."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
import torchvision

from iqpbfr_core.errors import InputError, MetricError, WeightsNotFoundError
from iqpbfr_core.evaluation.comparison import Case, Model, Results, check_settings, column, compare, pair
from iqpbfr_core.evaluation.frechet import read_statistics
from iqpbfr_core.evaluation.measures import PSNR, SSIM, Measure, by_lpips
from iqpbfr_core.evaluation.published import SETS
from iqpbfr_core.evaluation.report import summarise, write_report
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
    assert summary["ours"]["ssim"][0] == pytest.approx(column(found["ours"], "ssim").mean())
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
    # The first layer's part, by the paper: unit-length features, squared differences, weighted sums, means over places.
    first = torch.nn.Conv2d(3, 64, 11, 4, 2)
    first.load_state_dict({name: trunk[f"features.0.{name}"] for name in ("weight", "bias")})
    scale = network.scaling_layer
    a, b = (
        torch.nn.functional.normalize(first((2 * x - 1 - scale.shift) / scale.scale).relu(), dim=1)
        for x in (faces, faces.roll(1, 0))
    )
    parts = network(faces, faces.roll(1, 0), retPerLayer=True)[1]
    expected = ((a - b) ** 2 * layers["lin0.model.1.weight"]).sum(1).mean((1, 2))
    torch.testing.assert_close(parts[0].flatten(), expected, atol=1e-5, rtol=1e-4)
    del layers["lin4.model.1.weight"]
    torch.save(layers, tmp_path / "LPIPS_v0.1_alex-df73285e.pth")
    with pytest.raises(MetricError, match="LPIPS_v0"):
        load_lpips(tmp_path)


def test_what_is_no_file_of_statistics_is_refused(tmp_path):
    np.savez(tmp_path / "good.npz", mu=np.zeros(2048), sigma=np.zeros((2048, 2048), np.float32))
    assert read_statistics(tmp_path / "good.npz")[1].shape == (2048, 2048)
    np.savez(tmp_path / "small.npz", mu=np.zeros(3), sigma=np.zeros((3, 3)))
    (tmp_path / "text.npz").write_text("no statistics")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    for name in ("small", "text", "other", "missing"):
        with pytest.raises(InputError, match=name):
            read_statistics(tmp_path / f"{name}.npz")
