"""The photo's own detail survives a model of few pixels; its noise, its blur and its blocks do not."""

import math

import pytest
import torch
import torch.nn.functional as F

from iqpbfr_core.faces.detail import _ever_softer, blur, keep_detail, match_surroundings
from iqpbfr_core.image import resize, to_grey

SIDE, SCALE = 384, 6.0  # a face of 384 px through a model of 64


def portrait(seed=0):
    """Shapes with edges and fine lines on a soft ground."""
    generator = torch.Generator().manual_seed(seed)
    ground = resize(torch.rand(1, 3, 6, 6, generator=generator), (SIDE, SIDE)) * 0.5 + 0.2
    shapes = resize(torch.rand(1, 1, 24, 24, generator=generator), (SIDE, SIDE)) > 0.6
    lines = torch.zeros(1, 1, SIDE, SIDE)
    lines[..., 100:200, 100:300:7] = 1  # hair
    return (ground + 0.25 * shapes + 0.25 * lines).clamp(0, 1)


def drawn(photo):
    """What a model that changes nothing makes of it: the photo at its few pixels, without noise."""
    few = round(SIDE / SCALE)
    return resize(F.interpolate(photo, size=(few, few), mode="area"), (SIDE, SIDE)).clamp(0, 1)


def gradient_energy(images):
    luma = to_grey(images)[:, :1]
    return (luma.diff(dim=2).square().sum() + luma.diff(dim=3).square().sum()).item()


def noise_level(images):
    """Donoho's estimate: the median of the finest diagonal band."""
    luma = to_grey(images)[:, :1]
    corners = luma[..., ::2, ::2] - luma[..., 1::2, ::2] - luma[..., ::2, 1::2] + luma[..., 1::2, 1::2]
    return (corners / 2).abs().median().item() / 0.6745


def test_a_sharp_portrait_stays_sharp():
    photo = portrait()
    assert gradient_energy(drawn(photo)) < 0.3 * gradient_energy(photo)
    assert gradient_energy(keep_detail(photo, drawn(photo), SCALE, 1.0)) > 0.95 * gradient_energy(photo)
    half = keep_detail(photo, drawn(photo), SCALE, 0.5)
    assert gradient_energy(drawn(photo)) < gradient_energy(half) < gradient_energy(photo)


@pytest.mark.parametrize("level", [0.02, 0.04, 0.1])
def test_a_noisy_portrait_does_not_get_its_noise_back(level):
    """Little noise neither, although detail is stronger than it: their octaves differ."""
    noise = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    noisy = (portrait() + level * noise).clamp(0, 1)
    kept = keep_detail(noisy, drawn(portrait()), SCALE, 1.0)
    assert noise_level(kept) < 0.4 * noise_level(noisy)


@pytest.mark.parametrize("sigma", [2.0, 2.6, 12.0])
def test_pictures_of_few_pixels_blur_like_whole_ones(sigma):
    photo = portrait()
    levels = list(_ever_softer(photo, sigma))
    limits = [2.0**i for i in range(int(math.log2(sigma)))]
    assert len(levels) == len(limits) + 2
    for level, limit in zip(levels[1:], (*limits, sigma), strict=True):
        photo = blur(photo, limit)
        assert (level - photo).abs().mean() < 1.2 / 255


def test_a_blurred_portrait_stays_restored():
    blurred = blur(portrait(), 8.0)
    face = drawn(portrait())
    assert gradient_energy(keep_detail(blurred, face, SCALE, 1.0)) > 0.98 * gradient_energy(face)


def test_where_the_model_sees_every_pixel_nothing_is_added():
    photo = portrait()
    for scale in (0.5, 1.0):
        assert keep_detail(photo, drawn(photo), scale, 1.0) is not photo
        assert torch.equal(keep_detail(photo, drawn(photo), scale, 1.0), drawn(photo))
    assert torch.equal(keep_detail(photo, drawn(photo), SCALE, 0.0), drawn(photo))


def test_a_flat_photo_gives_no_nan():
    flat = torch.full((1, 3, 64, 64), 0.5)
    assert torch.equal(keep_detail(flat, flat, SCALE, 1.0), flat)


def test_a_face_becomes_as_soft_and_grainy_as_what_surrounds_it():
    share = torch.zeros(1, 1, SIDE, SIDE)
    share[..., 60:320, 60:320] = 1
    generator = torch.Generator().manual_seed(2)
    photo = blur(portrait(), 2.0) + 0.03 * torch.randn(1, 1, SIDE, SIDE, generator=generator)
    face = portrait(1)
    matched = match_surroundings(photo, face, share, 1.0)
    inner = (slice(None), slice(None), slice(60, 320), slice(60, 320))
    assert 0.7 < noise_level(matched[inner]) / noise_level(photo) < 1.3
    plain = match_surroundings(blur(portrait(), 2.0), face, share, 1.0)
    assert gradient_energy(plain[inner]) < 0.6 * gradient_energy(face[inner])
    assert torch.equal(match_surroundings(photo, face, share, 0.0), face)
    clean = match_surroundings(face, face, share, 1.0)
    assert (clean - face).abs().mean() < 0.01


def test_a_blur_is_what_a_convolution_gives():
    images = torch.rand(2, 3, 20, 31, generator=torch.Generator().manual_seed(0))
    position = torch.arange(-6, 7.0)
    kernel = (-(position**2) / (2 * 2.0**2)).exp()
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    wanted = F.pad(images, (6,) * 4, mode="replicate")
    wanted = F.conv2d(F.conv2d(wanted, kernel, groups=3), kernel.transpose(2, 3), groups=3)
    torch.testing.assert_close(blur(images, 2.0), wanted)
