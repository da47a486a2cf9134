"""iqpbfr info, iqpbfr convert"""

import dataclasses
from pathlib import Path
from typing import Literal

import torch
import typer
from rich.table import Table

from ..adapters import load_adapter
from ..checkpoint import load_network, save_network
from ..strangers import is_adapter
from .console import check_overwriting, output

DType = Literal["keep", "float32", "float16", "bfloat16"]
DTYPES: dict[DType, torch.dtype | None] = {
    "keep": None,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def info(file: str = typer.Argument(help="A weight file, a score adapter, or 'builtin'.")) -> None:
    """Say what a weight file is: its family, every hyperparameter, and what it was trained for; or whose adapter it is."""
    if Path(file).is_file() and is_adapter(file):
        output.print(_describe_adapter(file))
        return
    network = load_network(file)
    table = Table("field", "value", title=file)
    for field in dataclasses.fields(network.config):
        table.add_row(field.name, str(getattr(network.config, field.name)))
    for field in dataclasses.fields(network.supports):
        table.add_row(f"supports {field.name}", str(getattr(network.supports, field.name)))
    count = sum(p.numel() for p in network.parameters())
    table.add_row("parameters", f"{count / 1e6:.1f} M")
    table.add_row("stored as", ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in network.parameters()})))
    output.print(table)


def _describe_adapter(file: str) -> Table:
    adapter = load_adapter(file)
    table = Table("field", "value", title=file)
    table.add_row("kind", "score adapter")
    for field in dataclasses.fields(adapter.card):
        table.add_row(field.name, str(getattr(adapter.card, field.name)))
    table.add_row("parameters", f"{sum(p.numel() for p in adapter.network.parameters()) / 1e6:.2f} M")
    return table


def convert(
    file: Path = typer.Argument(help="A weight file of a supported family."),
    out: Path = typer.Argument(help="The .safetensors file to write."),
    dtype: DType = typer.Option("keep", help="How numbers are stored."),
) -> None:
    """Rewrite a weight file as .safetensors with its config inside."""
    check_overwriting([file], [out])
    save_network(load_network(file), out, DTYPES[dtype])
    output.print(str(out), soft_wrap=True)
