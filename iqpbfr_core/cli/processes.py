"""One call shared by several processes: `accelerate launch -m iqpbfr_core restore FOLDER ...`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch

from ..extras import needs

T = TypeVar("T")
_PATIENCE = timedelta(days=30)  # for the slowest share; the default of some minutes is for those who compute in step


def share(items: list[T]) -> list[T]:
    """This process's share of `items`, to be worked through on its own GPU; everything where it is alone."""
    processes = _processes()
    if processes is None:
        return items
    # Cut here, since older versions of accelerate give the last item to those who would have none.
    first, last = (len(items) * (processes.process_index + end) // processes.num_processes for end in (0, 1))
    return items[first:last]


@contextmanager
def leaving_together() -> Iterator[None]:
    """Nobody goes on before all are done, since a launcher ends the others when one leaves with an error code."""
    try:
        yield
    finally:
        if (processes := _processes()) is not None:
            processes.wait_for_everyone()


def _processes() -> Any:
    """Those that a launcher started with this one, by accelerate; None if there was no launcher."""
    if "LOCAL_RANK" not in os.environ:
        return None
    with needs("train", "sharing work between processes"):
        from accelerate import PartialState
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
