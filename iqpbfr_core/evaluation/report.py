"""A comparison as tables (Markdown, CSV, JSON) and as a page of pictures."""

import html
import io
import json
from collections.abc import Mapping, Sequence
from csv import writer
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ..image import write_atomically
from .comparison import DEGRADED, ORIGINAL, Scores, column
from .measures import Measure, Scale
from .published import PublishedSet
from .scatter import scatter
from .statistics import bootstrap

SHOWN = 24  # faces on the page
_STYLE = """body{font:15px system-ui,sans-serif;margin:2em;background:#fafafa;color:#222}table{border-collapse:collapse}
td,th{padding:.3em .8em;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}
.best{font-weight:bold}img{width:170px;display:block}.faces td{padding:2px;border:0}.bar{background:#4a7;height:4px;margin-left:auto}
.scatter{font-size:13px;fill:#222}.scatter circle{fill:#276;fill-opacity:.45}"""


@dataclass(frozen=True)
class Value:
    """A mean over faces with its 95 % interval; without one, a value of the set as such."""

    mean: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


Summary = dict[str, dict[str, Value | None]]  # entrant -> name of a scale -> value, None where there is none


def summarise(found: Mapping[str, Scores], measures: Sequence[Measure], seed: int = 0) -> Summary:
    """Means over faces with 95 % bootstrap intervals; None where no face has a value."""
    summary: Summary = {}
    for name, scores in found.items():
        cells: dict[str, Value | None] = {}
        for measure in measures:
            values = column(scores, measure.name)
            values = values[np.isfinite(values)]
            of_itself = name == ORIGINAL and measure.needs_original
            if of_itself or not len(values):
                cells[measure.name] = None
            else:
                cells[measure.name] = Value(float(values.mean()), *bootstrap(values, lambda x: float(x.mean()), seed))
        summary[name] = cells
    return summary


def write_report(
    folder: Path,
    title: str,
    found: Mapping[str, Scores],
    summary: Summary,
    scales: Sequence[Scale],
    published: PublishedSet | None,
) -> None:
    """table.md, table.csv, table.json and index.html in `folder`, beside what `compare` keeps there."""
    write_atomically(folder / "table.md", _markdown(title, summary, scales, published).encode())
    write_atomically(folder / "table.csv", _csv(summary).encode())
    write_atomically(folder / "table.json", json.dumps(_json(summary), indent=2, allow_nan=False).encode())
    write_atomically(folder / "index.html", _page(title, found, summary, scales, published).encode())


def _heading(scale: Scale) -> str:
    return f"{scale.heading} {'↓' if scale.lower_better else '↑'}"


def _cell(value: Value | None) -> str:
    return "-" if value is None else str(value)


def _markdown(title: str, summary: Summary, scales: Sequence[Scale], published: PublishedSet | None) -> str:
    lines = [f"# {title}", "", f"| | {' | '.join(map(_heading, scales))} |", "|" + "---|" * (len(scales) + 1)]
    lines += [f"| {name} | {' | '.join(map(_cell, cells.values()))} |" for name, cells in summary.items()]
    lines += ["", "Mean over faces [95 % bootstrap interval]."]
    if published is not None:
        names = sorted({measure for row in published.numbers.values() for measure in row})
        lines += [
            "",
            f"## As printed for {published.name}",
            "",
            f"| | {' | '.join(names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        for method, row in published.numbers.items():
            lines.append(f"| {method} | {' | '.join(f'{row[n]:g}' if n in row else '-' for n in names)} |")
        lines += ["", _warning(published)]
    return "\n".join(lines) + "\n"


def _warning(published: PublishedSet) -> str:
    return (
        f"Source: {published.source}; {published.protocol}. Sets of this name differ between papers: compare with these only "
        "on the same files."
    )


def _csv(summary: Summary) -> str:
    text = io.StringIO()
    rows = writer(text, lineterminator="\n")
    rows.writerow(["entrant", "measure", "mean", "low", "high"])
    for name, cells in summary.items():
        for measure, value in cells.items():
            if value is not None:
                rows.writerow([name, measure, *("" if x is None else f"{x:.6g}" for x in astuple(value))])
    return text.getvalue()


def _json(summary: Summary) -> dict[str, object]:
    return {
        name: {measure: None if value is None else asdict(value) for measure, value in cells.items()}
        for name, cells in summary.items()
    }


def _page(
    title: str,
    found: Mapping[str, Scores],
    summary: Summary,
    scales: Sequence[Scale],
    published: PublishedSet | None,
) -> str:
    rows = []
    for name, cells in summary.items():
        shown = "".join(
            f"<td{' class=best' if _is_best(summary, name, m) else ''}>{_cell(cells[m.name])}"
            f"<div class=bar style='width:{_share(summary, name, m):.0%}'></div></td>"
            for m in scales
        )
        rows.append(f"<tr><td>{html.escape(name)}</td>{shown}</tr>")
    head = "".join(f"<th>{html.escape(_heading(m))}</th>" for m in scales)
    names = "".join(f"<th>{html.escape(name)}</th>" for name in summary)
    grid = "".join(
        "<tr>"
        + "".join(f"<td><img loading=lazy src='faces/{quote(name)}/{quote(face)}.png'></td>" for name in summary)
        + "</tr>"
        for face in sorted(found[DEGRADED])[:SHOWN]
    )
    plots = "".join(
        f"<h3>{html.escape(_heading(m))}</h3>{drawing}"
        for m in scales
        if isinstance(m, Measure) and (drawing := scatter(found, m))
    )
    note = _printed(published) if published else ""
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><table><tr><th></th>{head}</tr>{''.join(rows)}</table>{note}"
        f"<h2>Each face</h2>{plots}<h2>Faces</h2><table class=faces><tr>{names}</tr>{grid}</table>"
    )


def _printed(published: PublishedSet) -> str:
    """What papers printed, as a table of its own: it is never in one with ours."""
    names = sorted({measure for row in published.numbers.values() for measure in row})
    rows = "".join(
        f"<tr><td>{html.escape(method)}</td>" + "".join(f"<td>{row.get(name, '-')}</td>" for name in names) + "</tr>"
        for method, row in published.numbers.items()
    )
    head = "".join(f"<th>{name}</th>" for name in names)
    return (
        f"<h2>As printed for {html.escape(published.name)}</h2><table><tr><th></th>{head}</tr>{rows}</table>"
        f"<p>{html.escape(_warning(published))}</p>"
    )


def _is_best(summary: Summary, name: str, scale: Scale) -> bool:
    """Among those who restored."""
    values = {
        entrant: cell.mean
        for entrant, cells in summary.items()
        if entrant not in (DEGRADED, ORIGINAL) and (cell := cells[scale.name]) is not None
    }
    return bool(values) and name == (min if scale.lower_better else max)(values, key=lambda entrant: values[entrant])


def _share(summary: Summary, name: str, scale: Scale) -> float:
    """Length of a bar: the mean as a share of the largest one."""
    means = {entrant: abs(cell.mean) for entrant, cells in summary.items() if (cell := cells[scale.name]) is not None}
    return means.get(name, 0.0) / (max(means.values(), default=0.0) or 1.0)
