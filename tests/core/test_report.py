"""What is said about the faces of each picture."""

import torch

from iqpbfr_core.faces import report
from iqpbfr_core.faces.face import Faces


def make_faces(widths, frames, num_frames):
    """Square faces of these widths in these frames."""
    boxes = torch.tensor([[0.0, 0.0, width, width] for width in widths]).reshape(-1, 4)
    landmarks = boxes[:, None, :2].expand(-1, 5, -1) + torch.arange(10.0).reshape(5, 2)
    frames = torch.tensor(frames, dtype=torch.long)
    return Faces(boxes, landmarks, torch.ones(len(boxes)), frames, (300, 300), num_frames)


def test_found():
    faces = make_faces([40, 120, 30], [0, 0, 2], 3)
    assert report.found(faces) == ("2 faces, 40 to 120 px wide", "no face found", "1 face, 30 px wide")


def test_restored():
    faces = make_faces([40, 20, 50, 60, 10], [0, 0, 0, 0, 2], 3)
    is_good = torch.tensor([False, False, False, True, False])
    assert report.restored(faces, faces.widths < 24, is_good, 24) == (
        "2 faces restored, 1 good enough left alone, 1 narrower than 24 px left alone",
        "no face found",
        "1 face narrower than 24 px left alone",
    )


def test_pictures_that_say_the_same_share_a_line():
    assert report.numbered(("a",)) == "a"
    assert report.numbered(("a", "a")) == "each of 2 pictures: a"
    assert report.numbered(("a", "a", "b", "a")) == "pictures 1 to 2: a\npicture 3: b\npicture 4: a"
