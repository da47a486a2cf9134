"""The extension without ComfyUI: its schemas are sound, its imports harmless, its files complete."""

import ast
import re
from pathlib import Path

import pytest
import tomllib
from schemas import NODES

ROOT = Path(__file__).parents[1]
NODE_FILES = sorted((ROOT / "nodes").glob("*.py"))
SCHEMA = re.compile(r"^IQPBFR_[A-Z]\w+$")


def classes():
    for file in NODE_FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and any("ComfyNode" in ast.unparse(base) for base in node.bases):
                yield file, node


def schema_call(node):
    method = next(f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "define_schema")
    call = next(n for n in ast.walk(method) if isinstance(n, ast.Call) and ast.unparse(n.func) == "io.Schema")
    return {keyword.arg: keyword.value for keyword in call.keywords}


def literal_ids(items):
    calls = [n.args[0] if ast.unparse(n.func) == "advanced" else n for n in items.elts]
    return [call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)]


@pytest.mark.parametrize(("file", "node"), list(classes()), ids=lambda x: getattr(x, "name", None))
def test_schema_is_sound(file, node):
    schema = schema_call(node)
    assert SCHEMA.match(schema["node_id"].value)
    assert schema["display_name"].value.endswith(" (IQP)"), "other packs have a Crop Faces, too"
    assert len(schema["description"].value) > 20
    inputs, outputs = literal_ids(schema["inputs"]), literal_ids(schema["outputs"])
    assert len(set(inputs)) == len(inputs)
    assert not set(inputs) & set(outputs), "ComfyUI 0.3.64 drops an extension whose input id equals an output id"


def test_all_nodes_are_listed_once():
    listed = re.search(r"NODES.*?= \((.*?)\)", (ROOT / "nodes" / "__init__.py").read_text(), re.S)[1]
    names = re.findall(r"\w+", listed)
    assert sorted(names) == sorted(node.name for _, node in classes())
    ids = [schema_call(node)["node_id"].value for _, node in classes()]
    assert len(set(ids)) == len(ids)


def replacements():
    tree = ast.parse((ROOT / "nodes" / "replacements.py").read_text())
    (table,) = (node.value for node in tree.body if isinstance(node, ast.Assign))
    return ast.literal_eval(table)


@pytest.mark.parametrize("replacement", replacements(), ids=lambda replacement: replacement["old_node_id"])
def test_a_replaced_node_gets_all_it_needs(replacement):
    """In the order of the schema, so that nothing is forgotten when it grows; what is optional may be left out."""
    node = next(node for node in NODES if node.id == replacement["new_node_id"])
    inputs = {entry["new_id"]: entry for entry in replacement["input_mapping"]}
    assert list(inputs) == [slot.id for slot in node.inputs if not slot.is_optional]
    kinds = {"FLOAT": float, "INT": int, "BOOLEAN": bool, "COMBO": str}
    for slot in node.inputs:
        if "set_value" in inputs.get(slot.id, {}):
            assert type(inputs[slot.id]["set_value"]) is kinds[slot.type]


def test_own_imports_are_relative():
    """ComfyUI owns the top-level name `nodes`, and a pip-installed iqpbfr_core could be another version."""
    for file in [ROOT / "__init__.py", *NODE_FILES]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert node.module.split(".")[0] not in ("nodes", "iqpbfr_core"), f"{file.name}: {node.module}"


def test_nothing_is_imported_at_the_top_of_the_package():
    body = ast.parse((ROOT / "__init__.py").read_text()).body
    assert not [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]


def test_registry_metadata():
    comfy = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["comfy"]
    assert "comfyui" not in comfy["DisplayName"].lower()
    assert comfy["requires-comfyui"] == ">=0.3.64"
    icon = ROOT / comfy["Icon"].split("/main/")[1]
    assert icon.is_file()
