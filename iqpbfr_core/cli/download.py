"""iqpbfr download"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.progress import DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table

from ..catalogue import MODELS, find_model
from ..download import Progress, fetch
from .console import errors, output


def download(
    name: str | None = typer.Argument(None, help="What to download; without a name, what there is."),
    out: Path = typer.Option(Path("models"), "-o", "--out", help="Folder of all models, such as ComfyUI/models."),
) -> None:
    """Download a published model into the folder it belongs in. Ctrl+C cancels and leaves nothing half-written."""
    if name is None:
        table = Table(Column("name", no_wrap=True), "file", "folder", "licence", "from")
        for model in MODELS:
            table.add_row(model.name, model.file.title, model.folder, model.licence, model.file.url)
        output.print(table)
        return
    model = find_model(name)
    target = out / model.folder / model.file.name
    if target.is_file():
        errors.print(f"{target} is there already.")
    else:
        errors.print(
            f"{model.file.title} from {model.file.url}; licence: {model.licence}.", soft_wrap=True, markup=False
        )
        with download_bar() as progress:
            fetch(model.file, target.parent, progress)
    output.print(str(target), soft_wrap=True)


@contextmanager
def download_bar() -> Iterator[Progress]:
    """A bar on the console, there from the first byte on; gives what `download.fetch` tells its progress to."""
    columns = (TextColumn("Downloading"), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:

        def show(done: int, total: int) -> None:
            if not bars.tasks:
                bars.add_task("")
            bars.update(bars.tasks[0].id, completed=done, total=total or None)

        yield show
