"""What became of the faces of each picture, in a line."""

from torch import Tensor

from .face import Faces


def found(faces: Faces) -> tuple[str, ...]:
    """A line for every frame: how many faces there are, and how wide."""
    return tuple(_found(faces[faces.frames == frame]) for frame in range(faces.num_frames))


def restored(faces: Faces, is_small: Tensor, is_good: Tensor, min_size: float) -> tuple[str, ...]:
    """A line for every frame: how many of its faces were restored, and why the others were not.

    Args:
        faces: all that there were.
        is_small: (N,) bool, those left alone because they are narrower than `min_size` pixels.
        is_good: (N,) bool, those left alone because they score well already.
    """
    lines = []
    for frame in range(faces.num_frames):
        here = faces.frames == frame
        counts = (
            (int((here & ~is_small & ~is_good).sum()), "restored"),
            (int((here & is_good & ~is_small).sum()), "good enough left alone"),
            (int((here & is_small).sum()), f"narrower than {min_size:g} px left alone"),
        )
        parts = [(count, words) for count, words in counts if count]
        said = [f"{_faces(count) if not index else count} {words}" for index, (count, words) in enumerate(parts)]
        lines.append(", ".join(said) or "no face found")
    return tuple(lines)


def numbered(lines: tuple[str, ...]) -> str:
    """Lines of a batch as one text; neighbours that say the same share a line."""
    if len(set(lines)) == 1:
        return lines[0] if len(lines) == 1 else f"each of {len(lines)} pictures: {lines[0]}"
    text, start = [], 0
    for end in range(1, len(lines) + 1):
        if end == len(lines) or lines[end] != lines[start]:
            which = f"picture {start + 1}" if end == start + 1 else f"pictures {start + 1} to {end}"
            text.append(f"{which}: {lines[start]}")
            start = end
    return "\n".join(text)


def _found(faces: Faces) -> str:
    if not len(faces):
        return "no face found"
    low, high = round(float(faces.widths.min())), round(float(faces.widths.max()))
    return f"{_faces(len(faces))}, {low} px wide" if low == high else f"{_faces(len(faces))}, {low} to {high} px wide"


def _faces(count: int) -> str:
    return f"{count} face{'' if count == 1 else 's'}"
