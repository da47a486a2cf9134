"""Faces found before, remembered for as long as the picture they were found in exists, and no longer."""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .face import Faces


class RememberedFaces:
    """The last faces found in each tensor of pictures. A tensor is known by its identity: its pixels are not compared."""

    def __init__(self) -> None:
        self._found: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, pictures: Tensor, detector: Any, find: Callable[[], Faces]) -> Faces:
        """What `detector` found in these very pictures before, or what `find` finds now."""
        if pictures in self._found:
            finder, faces = self._found[pictures]
            if finder() is detector:
                return faces
        faces = find()
        self._found[pictures] = weakref.ref(detector), faces
        return faces
