"""The nodes' schemas, read from the source: no ComfyUI is needed."""

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREES = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "nodes").glob("*.py"))]
# Functions such as quality_input(), which give an input, and advanced(), which takes one: name -> definition.
FUNCTIONS = {node.name: node for tree in TREES for node in tree.body if isinstance(node, ast.FunctionDef)}
# Socket types of our own, such as FACES: name -> type.
CUSTOM = {
    node.targets[0].id: node.value.args[0].value
    for tree in TREES
    for node in tree.body
    if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("io.Custom(")
}
WIDGETS = ("INT", "FLOAT", "BOOLEAN", "COMBO", "STRING")


@dataclass(frozen=True)
class Slot:
    """An input or output: id, socket type, name shown (None: the id), tooltip (None: not a plain string)."""

    id: str
    type: str
    name: str | None
    tooltip: str | None
    is_optional: bool
    is_advanced: bool


@dataclass(frozen=True)
class Node:
    id: str
    display_name: str
    description: str
    category: str
    inputs: list[Slot]
    outputs: list[Slot]

    @property
    def widgets(self) -> list[Slot]:
        """In the order of a saved workflow's `widgets_values`."""
        slots = [slot for slot in self.inputs if slot.type in WIDGETS]
        return [slot for slot in slots if not slot.is_optional] + [slot for slot in slots if slot.is_optional]


def _constant(node: ast.expr | None):
    return node.value if isinstance(node, ast.Constant) else None


def _slot(call: ast.Call, is_advanced: bool = False) -> Slot:
    """`io.Float.Input("id", …)`, `advanced(…)` of one, or a function that returns one and may take the id as its first
    argument."""
    first = call.args[0] if call.args else None
    if isinstance(call.func, ast.Name) and call.func.id == "advanced":
        assert isinstance(first, ast.Call)
        return _slot(first, is_advanced=True)
    if isinstance(call.func, ast.Name):
        function = FUNCTIONS[call.func.id]
        if first is None and function.args.defaults:
            first = function.args.defaults[0]
        call = next(node.value for node in ast.walk(function) if isinstance(node, ast.Return))
        if isinstance(call.args[0], ast.Constant):
            first = call.args[0]
        elif isinstance(call.args[0], ast.Call):
            return _slot(call, is_advanced)
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    id = _constant(options.get("id", first))
    assert isinstance(id, str), ast.unparse(call)
    kind = ast.unparse(call.func).removesuffix(".Input").removesuffix(".Output")
    return Slot(
        id,
        CUSTOM.get(kind, kind.removeprefix("io.").upper()),
        _constant(options.get("display_name")),
        _constant(options.get("tooltip")),
        bool(_constant(options.get("optional"))),
        is_advanced,
    )


def _node(schema: ast.Call) -> Node:
    options = {keyword.arg: keyword.value for keyword in schema.keywords}
    texts = (_constant(options[key]) for key in ("node_id", "display_name", "description"))
    category = ast.unparse(options["category"])
    slots = ([_slot(call) for call in options[key].elts] for key in ("inputs", "outputs"))
    return Node(*texts, category, *slots)


NODES = [
    _node(call)
    for tree in TREES
    for call in ast.walk(tree)
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "Schema"
]
