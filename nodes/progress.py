"""While a node works: its progress bar, what it says on itself, and stopping when the user asks for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as management
import comfy.utils
from comfy_api.latest import io
from server import PromptServer


def tell(node: type[io.ComfyNode], text: str) -> str:
    """Show a text on the node that runs, which has to have `hidden=[io.Hidden.unique_id]`; returns the text."""
    PromptServer.instance.send_progress_text(text, node.hidden.unique_id)
    return text


class Progress:
    """ComfyUI's progress bar, which also stops the run when the user asked for it."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total)

    def set(self, done: int, total: int, preview: Any = None) -> None:
        self._bar.update_absolute(done, total, preview)
        management.throw_exception_if_processing_interrupted()

    def advance(self, count: int = 1) -> None:
        self.set(self._bar.current + count, self._bar.total)


@contextmanager
def stopping(holder: Any) -> Iterator[None]:
    """Before every forward pass of a detector or parser, if there is one, ask whether the user wants to stop."""
    if holder is None:
        yield
        return
    ask = holder.network.register_forward_pre_hook(lambda *_: management.throw_exception_if_processing_interrupted())
    try:
        yield
    finally:
        ask.remove()
