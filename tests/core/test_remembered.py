import gc

import torch

from iqpbfr_core.faces.face import Faces
from iqpbfr_core.faces.remembered import RememberedFaces


class Detector:
    pass


def test_faces_are_looked_for_once_and_forgotten_with_the_picture():
    remembered, detector, looked = RememberedFaces(), Detector(), []

    def find():
        looked.append(1)
        return Faces.none((8, 8))

    photo = torch.zeros(1, 8, 8, 3)
    first = remembered.get(photo, detector, find)
    assert remembered.get(photo, detector, find) is first
    assert len(looked) == 1
    remembered.get(torch.zeros(1, 8, 8, 3), detector, find)  # the same pixels, but another picture
    assert len(looked) == 2
    remembered.get(photo, Detector(), find)
    remembered.get(photo, detector, find)  # the other detector is gone, and took its place
    assert len(looked) == 4
    del photo
    gc.collect()
    assert not len(remembered)


def test_a_search_that_was_stopped_is_not_remembered():
    remembered, detector, photo = RememberedFaces(), Detector(), torch.zeros(1, 8, 8, 3)

    def stop():
        raise KeyboardInterrupt

    for _ in range(2):
        try:
            remembered.get(photo, detector, stop)
        except KeyboardInterrupt:
            continue
        raise AssertionError
    assert not len(remembered)
