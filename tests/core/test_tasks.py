"""Colorizing and inpainting: models are run at what they were trained for, on faces and in photos."""

import dataclasses

import pytest
import torch
from commands import run
from networks import FAMILIES, TASKS, make_network

from iqpbfr_core import restore_photo
from iqpbfr_core.checkpoint import save_network
from iqpbfr_core.errors import InputError
from iqpbfr_core.faces.face import Faces
from iqpbfr_core.image import read_image, to_grey, write_image
from iqpbfr_core.restorer import Restorer

SIDE = 512


def model(task):
    return Restorer(make_network(TASKS[task]))


@pytest.fixture
def face():
    small = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(small, size=SIDE, mode="bilinear")


@pytest.fixture
def hole():
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., 100:200, 150:300] = 1
    return mask


def in_photo(photo):
    """One face that fills most of a square photo."""
    side = photo.shape[-1]
    landmarks = torch.tensor([[[0.38, 0.47], [0.62, 0.47], [0.5, 0.61], [0.39, 0.73], [0.61, 0.73]]]) * side
    boxes = torch.tensor([[0.2, 0.2, 0.8, 0.9]]) * side
    return Faces(boxes, landmarks, torch.ones(1), torch.zeros(1, dtype=torch.long), (side, side), 1)


@torch.no_grad()
def test_colorizing_sees_grey_and_runs_at_fidelity_zero_with_adain(face):
    restorer = model("colorize")
    features = restorer.encode(to_grey(face))
    expected = restorer.decode(restorer.lookup(features), features, 0.0, True)
    assert torch.equal(restorer.colorize(face), expected)
    sepia = (to_grey(face) * torch.tensor([1.2, 1.0, 0.8])[:, None, None]).clamp(0, 1)
    assert restorer.colorize(sepia).shape == face.shape


@torch.no_grad()
def test_inpainting_sees_white_runs_at_fidelity_one_and_keeps_the_rest(face, hole):
    restorer = model("inpaint")
    white = torch.where(hole > 0, torch.ones(()), face)
    features = restorer.encode(white)
    expected = restorer.decode(restorer.lookup(features), features, 1.0, False)
    filled = restorer.inpaint(face, hole)
    assert torch.equal(torch.where(hole > 0, expected, face), filled)
    half = restorer.inpaint(face, hole / 2)
    torch.testing.assert_close(half, torch.lerp(face, expected, hole / 2))
    with pytest.raises(InputError, match="mask must have shape"):
        restorer.inpaint(face, hole[..., :100])


@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (1.1, 0.95, 0.7)], ids=["grey", "sepia"])
def test_photos_stay_grey_or_toned_but_for_a_colorizing_model(face, tint):
    photo = (to_grey(face) * 0.8 * torch.tensor(tint)[:, None, None]).clamp(0, 1)
    plain = Restorer(make_network(FAMILIES["codeformer"]))
    kept = restore_photo(photo, plain, faces=in_photo(photo)).restored
    ratio = kept.mean((0, 2, 3)) / kept.mean((0, 2, 3))[1]
    torch.testing.assert_close(ratio, torch.tensor(tint) / tint[1], atol=0.02, rtol=0)
    coloured = restore_photo(photo, model("colorize"), faces=in_photo(photo))
    assert (coloured.restored.amax(1) - coloured.restored.amin(1)).max() > 0.05
    assert torch.equal(coloured.crops[:, 0], coloured.crops[:, 1])


def test_inpainting_a_photo_changes_what_the_mask_marks(face, hole):
    restorer = model("inpaint")
    result = restore_photo(face, restorer, faces=in_photo(face), mask=hole)
    changed = (result.image != face).any(1, keepdim=True)
    assert changed.any()
    assert not changed[hole == 0].any()
    assert result.crops.amax() == 1
    with pytest.raises(InputError, match="needs a mask"):
        restore_photo(face, restorer, faces=in_photo(face))


def test_the_command_line_colorizes_and_fills(face, hole, tmp_path):
    folder, masks, out = tmp_path / "faces", tmp_path / "masks", tmp_path / "out"
    write_image(to_grey(face)[0], folder / "a.png")
    write_image(hole[0].expand(3, -1, -1), masks / "a.png")
    for task in TASKS:
        save_network(model(task).network, tmp_path / f"{task}.safetensors")

    def command(task, *more):
        return run(
            "restore", folder, "-o", out / task, "--model", tmp_path / f"{task}.safetensors", "--device", "cpu", "--aligned", *more
        )  # fmt: skip

    assert command("colorize").returncode == 0
    coloured = read_image(out / "colorize" / "a.png")
    assert (coloured.amax(1) - coloured.amin(1)).max() > 0.05
    assert command("inpaint", "--mask", masks).returncode == 0
    filled, given = read_image(out / "inpaint" / "a.png"), read_image(folder / "a.png")
    assert torch.equal(torch.where(hole > 0, given, filled), given)
    assert not torch.equal(filled, given)
    refused = command("inpaint")
    assert refused.returncode == 1
    assert "an inpainting model needs a mask" in " ".join(refused.stderr.split())


def test_a_model_of_another_task_is_refused_with_where_it_belongs(face, hole):
    with pytest.raises(InputError, match="fills what a mask marks: use Inpaint Face"):
        model("inpaint").colorize(face)
    with pytest.raises(InputError, match="gives grey faces colour: use Colorize Face"):
        model("colorize").inpaint(face, hole)
    stage_one = Restorer(make_network(dataclasses.replace(FAMILIES["stage_one"])))
    with pytest.raises(InputError, match="restores nothing"):
        restore_photo(face, stage_one, faces=in_photo(face))
