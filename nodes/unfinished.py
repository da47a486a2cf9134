"""Searches that were interrupted: their best goes down the graph, but pressing Run again goes on instead of taking it
from the cache."""

import weakref
from dataclasses import dataclass
from typing import Any

from ..iqpbfr_core.restorer import Codes
from .sockets import FaceCodes

Settings = dict[str, Any]


@dataclass(frozen=True)
class Search:
    """An interrupted one: the widgets it was run with, where it began, the best it found and the steps it still had.

    The start is referred to weakly: it would keep the model in memory.
    """

    settings: Settings
    start: "weakref.ref[FaceCodes]"
    found: Codes
    steps_left: int


_last: Search | None = None
_interrupted: list[Settings] = []


def left_by(settings: Settings, start: FaceCodes) -> Search | None:
    """The last search that was interrupted, if it is asked for again: with equal settings, from the very same codes."""
    return _last if _last is not None and _last.start() is start and _last.settings == settings else None


def keep(search: Search) -> None:
    """Remember a search that was interrupted."""
    global _last
    _last = search
    _interrupted.append(search.settings)


def forget(search: Search) -> None:
    """It has been gone on with to its end."""
    global _last
    if _last is search:
        _last = None


def fingerprint(inputs: Settings) -> int:
    """How often searches with these widgets were interrupted. ComfyUI caches a node until that changes."""
    return sum(inputs.items() <= settings.items() for settings in _interrupted)
