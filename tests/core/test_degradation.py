"""Degradation: seeded per image, in range, bad where it should be."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter

from iqpbfr_core import degrade
from iqpbfr_core.degradation import PRESETS, Degradation, DegradationRange, apply, cut_off_blur, draw, gaussian_blur
from iqpbfr_core.errors import InputError


@pytest.mark.parametrize("preset", PRESETS)
def test_same_seed_same_picture_and_batch_equals_singles(faces, preset):
    batch = degrade(faces, preset, seed=5)
    assert torch.equal(batch, degrade(faces, preset, seed=5))
    singles = torch.cat([degrade(f[None], preset, seed=5 + i) for i, f in enumerate(faces)])
    torch.testing.assert_close(batch, singles, atol=2e-2, rtol=0)  # JPEG rounds: a last digit may become a step
    assert (batch - singles).abs().mean() < 1e-3
    assert not torch.equal(batch, degrade(faces, preset, seed=6))


@pytest.mark.parametrize("size", [(64, 64), (65, 47), (16, 200)])
def test_odd_sizes_keep_shape_and_range(size):
    degraded = degrade(torch.rand(2, 3, *size), "full", seed=1)
    assert degraded.shape == (2, 3, *size)
    assert degraded.min() >= 0
    assert degraded.max() <= 1


def test_drawn_parameters_stay_in_their_ranges_and_scale_with_the_resolution():
    ranges = PRESETS["full"]
    drawn = [draw("full", seed, 512) for seed in range(300)]
    for name in ("noise", "jpeg", "downsample"):
        low, high = getattr(ranges, name)
        values = [getattr(d, name) for d in drawn]
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high >= max(values) > high - 0.1 * (high - low)
    assert draw("full", 1, 256).sigma[0] == pytest.approx(draw("full", 1, 512).sigma[0] / 2)
    assert 0.4 < np.mean([d.sigma[0] != d.sigma[1] for d in drawn]) < 0.6


def test_blur_is_a_gaussian(faces):
    blurred = gaussian_blur(faces[:1], [(2.0, 2.0)], [0.3])
    expected = gaussian_filter(faces[0].numpy(), (0, 2, 2), mode="mirror", truncate=6)
    np.testing.assert_allclose(blurred[0], expected, atol=2e-3)


def test_published_blur_is_the_covariance_kernel_cut_off(faces):
    """As basicsr makes it: exp(-1/2 x^T S^-1 x) on a grid of 41 x 41, divided by its sum, mirrored at borders."""
    sigma, angle = (3.0, 9.0), 0.7
    grid = np.stack(np.meshgrid(np.arange(-20, 21), np.arange(-20, 21)), -1).astype(np.float64)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag(np.square(sigma)) @ turn.T)
    kernel = np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", grid, inverse, grid))
    expected = convolve(faces[0].numpy(), kernel[None] / kernel.sum(), mode="mirror")
    np.testing.assert_allclose(cut_off_blur(faces[:1], sigma, angle, 41)[0], expected, atol=1e-4)


def test_published_recipes_keep_their_own_steps():
    assert {draw("codeformer", seed, 512).taps for seed in range(9)} == {41}
    assert {draw("daefr", seed, 512).taps for seed in range(30)} == {39, 41}
    assert draw("codeformer", 1, 256).taps == 21
    assert draw("full", 1, 512).taps is None
    assert min(draw("daefr", seed, 512).downsample for seed in range(1500)) < 1
    ours, theirs = draw("full", 3, 512), draw("codeformer", 3, 512)
    assert (ours.sigma, ours.angle, ours.downsample, ours.jpeg) == (
        theirs.sigma,
        theirs.angle,
        theirs.downsample,
        theirs.jpeg,
    )


def test_no_degradation_changes_nothing(faces):
    assert torch.equal(apply(faces, [Degradation()] * 3), faces)


def test_gradients_flow_through_every_step(faces):
    images = faces[:1].clone().requires_grad_()
    apply(images, [Degradation(sigma=(1.0, 2.0), downsample=2.0, noise=2.0, jpeg=50.0)]).mean().backward()
    assert images.grad.abs().sum() > 0


def test_bad_arguments_are_refused(faces):
    with pytest.raises(InputError, match="mild, full"):
        degrade(faces, "severe")
    with pytest.raises(InputError, match="as many seeds"):
        degrade(faces, "mild", [1, 2])
    with pytest.raises(InputError, match="low <= high"):
        DegradationRange(blur_sigma=(2, 1), downsample=(1, 2), noise=(0, 1), jpeg=(10, 20))
    with pytest.raises(InputError, match="NaN"):
        degrade(faces * float("nan"))
