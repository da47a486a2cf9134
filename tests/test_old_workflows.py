"""Workflows of earlier releases, kept as they were: every one still fits the nodes.

Saved workflows give sockets by name, and widgets and outputs by their place.
"""

import json
from numbers import Real
from pathlib import Path

import pytest
from schemas import NODES

OLD = sorted((Path(__file__).parent / "comfy" / "old_workflows").glob("*.json"))
BY_ID = {node.id: node for node in NODES}
FITS = {
    "INT": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "FLOAT": lambda value: isinstance(value, Real) and not isinstance(value, bool),
    "BOOLEAN": lambda value: isinstance(value, bool),
    "COMBO": lambda value: isinstance(value, str),
    "STRING": lambda value: isinstance(value, str),
}


def test_there_are_old_workflows():
    assert OLD


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_old_workflow_fits_the_nodes(path):
    saved = [
        node for node in json.loads(path.read_text(encoding="utf-8"))["nodes"] if node["type"].startswith("IQPBFR_")
    ]
    assert saved
    for old in saved:
        node = BY_ID[old["type"]]
        values, widgets = old.get("widgets_values", []), node.widgets
        assert len(values) <= len(widgets), node.id
        for value, widget in zip(values, widgets, strict=False):
            assert FITS[widget.type](value), f"{node.id}.{widget.id} is a {widget.type}, the workflow has {value!r}"
        assert all(widget.is_optional for widget in widgets[len(values) :]), f"{node.id}: new widgets are optional"
        types = {slot.id: slot.type for slot in node.inputs}
        for socket in old.get("inputs", []):
            assert types.get(socket["name"]) == socket["type"], f"{node.id}.{socket['name']}"
        outputs = [slot.type for slot in node.outputs[: len(old.get("outputs", []))]]
        assert outputs == [output["type"] for output in old.get("outputs", [])], node.id


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_what_a_node_needs_was_wired_then(path):
    """A required socket that came later is not wired in them."""
    for old in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        if old["type"] not in BY_ID:
            continue
        wired = {socket["name"] for socket in old.get("inputs", [])}
        sockets = {slot.id for slot in BY_ID[old["type"]].inputs if slot not in BY_ID[old["type"]].widgets}
        optional = {slot.id for slot in BY_ID[old["type"]].inputs if slot.is_optional}
        assert sockets - optional <= wired, old["type"]
