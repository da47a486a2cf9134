"""iqpbfr pack"""

from pathlib import Path

import typer

from ..training.data import list_images
from ..training.shards import plan_shards, write_shard
from .console import for_each, output


def pack(
    faces: Path = typer.Argument(help="Folder of pictures."),
    out: Path = typer.Option(..., "-o", "--out", help="Folder for the shards (WebDataset .tar files)."),
    size: int = typer.Option(1024, min=1, help="MiB of a shard."),
) -> None:
    """Put the pictures of a folder, as they are, into shards: `train` on them equals `train` on the folder."""
    plan = plan_shards(list_images(faces), out, size * 2**20)

    def work(shard: Path) -> None:
        write_shard(plan[shard], shard)
        output.print(str(shard), soft_wrap=True)

    for_each(plan, len(plan), "Packing", work, str)
