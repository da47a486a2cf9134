"""Where models lie: our folders and those other face restoration packs share, and what is in them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import folder_paths

from ..iqpbfr_core import strangers
from ..iqpbfr_core.checkpoint import RESTORER_SUFFIXES, SUFFIXES
from ..iqpbfr_core.errors import InputError, WeightsNotFoundError
from ..iqpbfr_core.faces.detection import DETECTOR_FILES

RESTORER_FOLDERS = ("iqpbfr", "facerestore_models")
METRIC_FOLDER = "iqa"
DETECTION_FOLDER = "facedetection"
ADAPTER_FOLDER = "iqpbfr_adapters"


def add_model_folders() -> None:
    """Make our model folders known to ComfyUI; those other packs have set up are read as they are."""
    for name in (*RESTORER_FOLDERS, METRIC_FOLDER, DETECTION_FOLDER, ADAPTER_FOLDER):
        is_new = name not in folder_paths.folder_names_and_paths
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        if is_new:
            folder_paths.folder_names_and_paths[name] = (folder_paths.get_folder_paths(name), set(RESTORER_SUFFIXES))


def restorer_files() -> list[str]:
    """Files in our folder and in the one face restoration packs share, each name once, without what is no restorer."""
    names = [name for folder in RESTORER_FOLDERS for name in folder_paths.get_filename_list(folder)]
    names = list(dict.fromkeys(name for name in names if name.lower().endswith(RESTORER_SUFFIXES)))
    return [name for name in names if (path := _full_path(name)) and not strangers.what_it_is(path)]


def face_files() -> list[str]:
    """RetinaFace files users may have beside the named ones."""
    names = folder_paths.get_filename_list(DETECTION_FOLDER)
    names = [name for name in names if name.lower().endswith(SUFFIXES) and name not in DETECTOR_FILES]
    return [name for name in names if strangers.is_detector(folder_paths.get_full_path(DETECTION_FOLDER, name))]


def adapter_files() -> list[str]:
    """Score adapters, which are always of one format."""
    return [name for name in folder_paths.get_filename_list(ADAPTER_FOLDER) if name.lower().endswith(".safetensors")]


def restorer_path(name: str) -> str:
    """Full path of a file in the folders of restorers."""
    if path := _full_path(name):
        return path
    raise InputError(
        f"restorer {name!r} is not there any more. Put it into one of: "
        + ", ".join(path for folder in RESTORER_FOLDERS for path in folder_paths.get_folder_paths(folder))
    )


def not_a_restorer(name: str) -> str:
    """What a file in the folders of restorers is that is none, or ""."""
    path = _full_path(name)
    words = strangers.what_it_is(path) if path else ""
    return f"{name}: {words}." if words else ""


def _full_path(name: str) -> str | None:
    paths = (folder_paths.get_full_path(folder, name) for folder in RESTORER_FOLDERS)
    return next(filter(None, paths), None)


@contextmanager
def naming_the_switch() -> Iterator[None]:
    """Say about missing weights what can be done in the node that misses them."""
    try:
        yield
    except WeightsNotFoundError as error:
        raise WeightsNotFoundError(f"{error} In this node: switch allow_download on, or put the file there.") from error
