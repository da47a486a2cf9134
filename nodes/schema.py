"""What the schemas of all nodes share."""

from comfy_api.latest import io

CATEGORY = "face restoration/IQP"


def check_choice(name: str, value: str, choices: list[str]) -> str:
    """What is wrong with a combo's value, or "". ComfyUI 0.3.64 does not check combos of V3 nodes itself."""
    return "" if value in choices else f"{name} is {value!r}; there are: {', '.join(choices)}."


def search_aliases(*names: str) -> dict[str, list[str]]:
    """Other words to find a node by, for ComfyUI versions whose schemas have them (0.3.64 has not)."""
    return {"search_aliases": list(names)} if "search_aliases" in io.Schema.__dataclass_fields__ else {}
