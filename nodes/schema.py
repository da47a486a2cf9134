"""What the schemas of all nodes share, and how nodes speak of errors."""

import functools
from collections.abc import Collection
from typing import Any, TypeVar

from comfy_api.latest import io

from ..iqpbfr_core.errors import InputError, IQPError

CATEGORY = "face restoration/IQP"
Widget = TypeVar("Widget", bound=io.WidgetInput)


def advanced(widget: Widget) -> Widget:
    """The same input, which few pictures need: Nodes 2.0 keeps it behind "Show advanced inputs"."""
    widget.extra_dict["advanced"] = True  # newer versions have an argument for it, 0.3.64 has not
    return widget


class FaceRestorationError(Exception):
    """An error of ours as ComfyUI shows it: by the name below, where other exceptions have the path of their module."""

    __module__ = "builtins"
    __qualname__ = "Face restoration"


def naming_errors(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The same node, whose errors that a user can mend begin with its name."""
    run = node.execute.__func__  # type: ignore[attr-defined]

    @functools.wraps(run)
    def execute(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> io.NodeOutput:
        try:
            return run(cls, *args, **kwargs)
        except IQPError as error:
            raise FaceRestorationError(f"{cls.define_schema().display_name}: {error}") from error

    node.execute = classmethod(execute)  # type: ignore[assignment]
    return node


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """What is wrong with a combo's value, or "". ComfyUI 0.3.64 does not check combos of V3 nodes itself.

    For `validate_inputs` with one argument: ComfyUI puts what is said there under every input it was given. Combos beside
    that one are checked when the node runs.
    """
    return "" if value in choices else f"{name} is {value!r}; there are: {', '.join(choices)}."


def require_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise InputError unless a combo has one of its values."""
    if wrong := check_choice(name, value, choices):
        raise InputError(wrong)


def search_aliases(*names: str) -> dict[str, list[str]]:
    """Other words to find a node by, for ComfyUI versions whose schemas have them (0.3.64 has not)."""
    return {"search_aliases": list(names)} if "search_aliases" in io.Schema.__dataclass_fields__ else {}
