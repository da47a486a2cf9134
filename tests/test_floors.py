"""The house: imports only go down, importing costs little, and nothing heavy or networked happens at import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from iqpbfr_core.extras import EXTRAS

ROOT = Path(__file__).parents[1]
# From the ground up. A module may import from its own floor and from those before it.
FLOORS = (
    "errors",
    "foreign_file",
    "tensor_file",
    "extras",
    "download",
    "config",
    "image",
    "photo",
    "video",
    "figure",
    "layers",
    "models",
    "strangers",
    "checkpoint",
    "upscale",
    "settings",
    "features",
    "precision",
    "restorer",
    "adapters",
    "codes",
    "pyiqa_metrics",
    "quality",
    "heatmap",
    "degradation",
    "faces",
    "catalogue",
    "pipeline",
    "optimize",
    "training",
    "evaluation",
    "cli",
    "__main__",
)


def _floor(path: Path) -> str:
    return path.relative_to(ROOT / "iqpbfr_core").parts[0].removesuffix(".py")


def _imported_floors(path: Path) -> set[str]:
    """Floors of iqpbfr_core that a module imports from, relative imports resolved."""
    package = ("iqpbfr_core", *path.relative_to(ROOT / "iqpbfr_core").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            for alias in node.names:
                target = (*base, *(node.module or alias.name).split("."))
                if len(target) > 1:
                    found.add(target[1])
    return found - {"__version__"}


MODULES = [p for p in sorted((ROOT / "iqpbfr_core").rglob("*.py")) if p != ROOT / "iqpbfr_core" / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    own = _floor(path)
    assert own in FLOORS, f"{own} has no floor: add it to FLOORS"
    above = {f for f in _imported_floors(path) if FLOORS.index(f) > FLOORS.index(own)}
    assert not above, f"{path.name} on floor {own!r} imports from above: {above}"


def test_core_does_not_know_comfyui():
    for path in MODULES:
        assert "comfy" not in {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }


def test_nothing_imports_facexlib():
    """Its networks are ours by now; it is what tests compare with."""
    for path in (*MODULES, *(ROOT / "nodes").glob("*.py")):
        imports = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {n.module or "" if isinstance(n, ast.ImportFrom) else n.names[0].name for n in imports}
        assert not any(name.startswith("facexlib") for name in names), path


def test_import_is_light():
    code = (
        "import sys, iqpbfr_core; "
        "heavy = {'torch', 'pyiqa', 'facexlib', 'kornia', 'torchvision'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _loaded_at_start(path: Path, seen: set[Path]) -> set[str]:
    """Top-level packages of others that importing a module of ours imports, what functions import later left out."""
    found = set()
    seen.add(path)
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            places = [base, *(base / alias.name for alias in node.names)]
            files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
            for file in files:
                if file.is_file() and file not in seen:
                    found |= _loaded_at_start(file, seen)
    return found - sys.stdlib_module_names


def test_nodes_start_with_what_comfyui_has_loaded():
    """Anything else would make everybody who starts ComfyUI wait for it."""
    loaded = _loaded_at_start(ROOT / "nodes" / "__init__.py", set())
    own = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "server"}
    assert loaded <= own | {"numpy", "PIL", "safetensors", "torch", "torchvision"}


def _project():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib is part of Python from 3.11 on")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_requirements_are_the_dependencies_and_only_lower_bounds():
    dependencies = _project()["dependencies"]
    assert (ROOT / "requirements.txt").read_text().splitlines() == dependencies
    for dependency in dependencies:
        assert not set("<=!~").intersection(dependency.replace(">=", "")), f"{dependency} is more than a lower bound"


def test_words_for_missing_packages_name_what_the_extras_hold():
    extras = _project()["optional-dependencies"]
    assert {name: tuple(extras[name]) for name in EXTRAS} == EXTRAS


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [("typer", ["--version"]), ("accelerate", ["train", "lookup", "--data", "x"]), ("pyiqa", ["metrics"])],
)
def test_command_without_its_extra_says_what_to_install(missing, arguments):
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {arguments!r}; from iqpbfr_core.__main__ import main; main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 2, run.stderr
    assert f'{sys.executable} -m pip install "{missing}' in run.stderr
    assert "Traceback" not in run.stderr
