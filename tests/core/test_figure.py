"""Pictures for people: right sizes, and nothing lost to missing values."""

import math

import torch

from iqpbfr_core.figure import captioned, labelled_grid, line_plot, side_by_side


def test_a_grid_holds_its_faces_unchanged(faces):
    picture = labelled_grid([faces, 1 - faces], ["first", "second"], ["a", "b", "c"], [["0.1", "0.2", "0.3"]])
    height, width = picture.shape[1:]
    assert height > 2 * 64
    assert width > 3 * 64
    last = picture[:, height - 64 :, width - 64 :]
    torch.testing.assert_close(last, 1 - faces[2], atol=0.5 / 255 + 1e-6, rtol=0)


def test_a_plot_leaves_out_what_is_missing_and_survives_one_value():
    plot = line_plot({"a": ([0, 1, 2], [0.2, math.nan, 0.4]), "b": ([0, 1], [1, 1])}, "x", "y", {"b": ([0, 0], [2, 2])})
    assert plot.shape == (3, 400, 640)
    assert (plot < 0.5).any()
    assert line_plot({"flat": ([1], [1])}, "x", "y").shape == (3, 400, 640)


def test_captions_change_the_lower_left_corner_only(faces):
    shown = captioned(faces, ["0.1", "0.2", "0.3"])
    changed = ((shown - faces).abs() > 1 / 255).any(1)
    assert changed[:, 40:, :32].flatten(1).any(1).all()
    assert not changed[:, :32].any()
    assert not changed[:, :, 48:].any()


def test_before_and_after_stand_side_by_side_at_the_size_of_the_result(faces):
    result = torch.nn.functional.interpolate(faces, size=(96, 128))
    both = side_by_side(faces, result, line=4)
    assert both.shape == (3, 3, 96, 128 + 4 + 128)
    torch.testing.assert_close(both[..., -128:], result)
    assert (both[..., 128:132] == 1).all()
