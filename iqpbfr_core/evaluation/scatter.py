"""Every face's value by every entrant, as a drawing (SVG) for a page: a mean hides faces that went wrong."""

import html
from collections.abc import Mapping

import numpy as np

from .comparison import Scores
from .measures import Measure

_WIDTH, _ROW, _LEFT = 720, 22, 160  # pixels: of the drawing, of an entrant, of its name


def scatter(found: Mapping[str, Scores], measure: Measure) -> str:
    """A row of dots for each entrant, the lowest value of all at the left; faces without a value have none."""
    finite = [v[measure.name] for scores in found.values() for v in scores.values() if np.isfinite(v[measure.name])]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    parts, height = [], _ROW * (len(found) + 1)
    for row, (name, scores) in enumerate(found.items()):
        y = _ROW * row + _ROW / 2
        parts.append(f"<text x='0' y='{y + 5}'>{html.escape(name)}</text>")
        for face, values in sorted(scores.items()):
            value = values[measure.name]
            if np.isfinite(value):
                x = _LEFT + (_WIDTH - _LEFT - 10) * (value - low) / ((high - low) or 1.0)
                parts.append(
                    f"<circle cx='{x:.1f}' cy='{y}' r='4'><title>{html.escape(face)}: {value:.4g}</title></circle>"
                )
    ends = f"<text x='{_LEFT}' y='{height - 4}'>{low:.4g}</text><text x='{_WIDTH}' y='{height - 4}' text-anchor='end'>{high:.4g}</text>"
    return f"<svg width='{_WIDTH}' height='{height}' class='scatter'>{''.join(parts)}{ends}</svg>"
