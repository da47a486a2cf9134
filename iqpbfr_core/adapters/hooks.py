"""Layers that answer differently for a while."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]

_REGISTERING = threading.Lock()  # torch numbers hooks without one, and two of a number would replace each other


@contextlib.contextmanager
def changing_outputs(network: nn.Module, changes: Mapping[str, Change]) -> Iterator[None]:
    """Inside, the modules of these names give what `changes` make of their outputs, to calls of this thread alone.

    Networks are shared: another restorer may run the same modules in another thread meanwhile. Afterwards, whatever
    happened, the modules are as they were.
    """
    caller = threading.get_ident()

    def hook_for(change: Change) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            return change(output) if threading.get_ident() == caller else None

        return hook

    with contextlib.ExitStack() as hooks:
        for name, change in changes.items():
            with _REGISTERING:
                handle = network.get_submodule(name).register_forward_hook(hook_for(change))
            hooks.callback(handle.remove)
        yield
