"""Fidelity keeps what is coarse in the degraded picture."""

import dataclasses

import pytest
import torch
from networks import make_network
from torchvision.transforms.functional import gaussian_blur

from iqpbfr_core.errors import CheckpointError
from iqpbfr_core.layers.coarse import keep_coarse
from iqpbfr_core.restorer import Restorer
from iqpbfr_core.training.presets import TINY

PICTURE = dataclasses.replace(
    TINY, head=1, widths=(16, 16, 32, 64), generator_depths=(1, 1, 1, 1), fusion=(16, 64), local_levels=2
)


def test_only_what_is_coarse_is_replaced_and_by_the_share_asked_for():
    image, picture = torch.rand(2, 2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    coarse, wanted = (gaussian_blur(x, [9, 9], [1.5, 1.5]) for x in (image, picture))
    torch.testing.assert_close(keep_coarse(image, picture, 1.0), image - coarse + wanted)
    kept = keep_coarse(image, picture, torch.tensor([0.0, 0.5])[:, None, None, None])
    assert torch.equal(kept[0], image[0])
    torch.testing.assert_close(kept[1] - image[1], 0.5 * (wanted - coarse)[1])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_grows_with_fidelity_from_nothing(faces, dtype):
    plain, keeps = (
        Restorer(make_network(dataclasses.replace(PICTURE, keeps_coarse=share)).to(dtype)) for share in (0.0, 0.6)
    )
    features = plain.encode(faces)
    codes = plain.lookup(features)
    assert torch.equal(plain.decode_raw(codes, features, 0.0), keeps.decode_raw(codes, features, 0.0))
    fidelity = torch.tensor([0.0, 0.5, 1.0])
    before, after = (restorer.decode_raw(codes, features, fidelity) for restorer in (plain, keeps))
    picture = features.skips[PICTURE.resolution]
    wanted = keep_coarse(before, picture, 0.6 * fidelity.to(before)[:, None, None, None])
    torch.testing.assert_close(after, wanted)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[1:], before[1:])


@pytest.mark.parametrize("change", [{"keeps_coarse": 1.1}, {"keeps_coarse": 0.5, "fusion": (16,)}])
def test_more_than_all_of_it_or_without_the_picture_is_refused(change):
    with pytest.raises(CheckpointError, match="keeps_coarse"):
        dataclasses.replace(PICTURE, **change)
