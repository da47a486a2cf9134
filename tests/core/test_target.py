"""Restoring to a wanted score: the least intervention that reaches it, and the truth about whether it does."""

import dataclasses

import pytest
import torch
from networks import make_network

from iqpbfr_core.errors import InputError
from iqpbfr_core.optimize import restore_to_target
from iqpbfr_core.restorer import Restorer
from iqpbfr_core.training.presets import TINY


class Dial:
    """A restorer whose faces show what they were restored with: red = quality, green = 1 - fidelity."""

    has_fidelity = has_quality = True
    config = TINY

    def __init__(self):
        self.encodes = 0

    def encode(self, images):
        self.encodes += 1
        return dataclasses.make_dataclass("F", ["z"])(images)

    def lookup(self, features, quality, guidance, alpha):
        return quality

    def decode(self, codes, features, fidelity, adain):
        return torch.stack([codes, 1 - fidelity, 0 * codes], 1)[:, :, None, None].expand(-1, -1, 64, 64).float()


def score(images):
    """Falls with fidelity, rises with quality: (2 (1 - fidelity) + quality) / 3."""
    return (images[:, 0] + 2 * images[:, 1]).mean((1, 2)) / 3


def test_the_highest_fidelity_then_the_lowest_quality(faces):
    dial = Dial()
    target = torch.tensor([0.2, 0.5, 1.0])
    result = restore_to_target(dial, faces, score, target, halvings=8)
    assert dial.encodes == 1
    assert result.is_reached.all()
    assert (result.scores >= target).all()
    # 0.2: fidelity 1 is enough, quality 0.6; 0.5: needs fidelity 0.75 at quality 1; 1.0: everything.
    torch.testing.assert_close(result.fidelity, torch.tensor([1.0, 0.75, 0.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(result.quality, torch.tensor([0.6, 1.0, 1.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(score(result.images), result.scores)
    assert result.num_decodes <= 3 + 2 * 8


def test_what_cannot_be_reached_is_said_and_the_best_is_given(faces):
    result = restore_to_target(Dial(), faces, lambda images: 0.5 * score(images), 0.9)
    assert not result.is_reached.any()
    torch.testing.assert_close(result.scores, torch.full((3,), 0.5))
    assert (result.fidelity == 0).all()
    assert (result.quality == 1).all()


@pytest.mark.parametrize(
    "change", [{}, {"conditioning": "none"}, {"fusion": ()}, {"conditioning": "none", "num_hq_codes": 0}]
)
def test_it_works_with_what_a_model_has_and_a_batch_equals_singles(change, faces):
    restorer = Restorer(make_network(dataclasses.replace(TINY, **change)))
    bright = lambda images: images.mean((1, 2, 3))  # noqa: E731
    target = restorer.restore(faces, 1.0, 0.5).mean((1, 2, 3)) - 1e-3
    with torch.inference_mode():
        batch = restore_to_target(restorer, faces, bright, target, halvings=3)
    assert (batch.scores[batch.is_reached] >= target[batch.is_reached]).all()
    for index in range(3):
        single = restore_to_target(restorer, faces[index : index + 1], bright, target[index].item(), halvings=3)
        torch.testing.assert_close(single.scores[0], batch.scores[index], atol=1e-4, rtol=0)
    again = restorer.decode(
        restorer.lookup(restorer.encode(faces), batch.quality), restorer.encode(faces), batch.fidelity
    )
    if restorer.has_fidelity:
        torch.testing.assert_close(again, batch.images)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": 1.1}, "target"),
        ({"target": float("nan")}, "target"),
        ({"target": torch.tensor([0.1, 0.2])}, "target"),
        ({"halvings": 0}, "halvings"),
        ({"metric": "niqe"}, "load_metric"),
    ],
)
def test_bad_arguments_are_refused(tiny, faces, arguments, words):
    with pytest.raises(InputError, match=words):
        restore_to_target(tiny, faces, **{"metric": score, "target": 0.5, **arguments})


def test_it_can_be_stopped_before_any_forward_pass():
    class Stopped(BaseException):
        pass

    for allowed in (1, 2, 5):
        left = [allowed]

        def progress(left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Stopped

        with pytest.raises(Stopped):
            restore_to_target(Restorer(make_network()), torch.rand(1, 3, 64, 64), score, 0.3, progress=progress)
        assert left == [0]
