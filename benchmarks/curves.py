"""Draws what `scale.py` has measured: PNG and SVG."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import BASELINE, SUBJECT, number

ALONE = 0.1  # the part of the machine that others may use unnoticed
GREY = "#666666"
COLUMNS = 3
NAMES = {SUBJECT: "garrison", BASELINE: "standard library"}
PEERS = {SUBJECT: "#1f5fa8", BASELINE: "#b0703a"}
COLOURS = ("#1f5fa8", "#c8553d", "#3a7d44", "#7b4fa3", "#b8860b", "#2a9d9d", "#444444")
PANELS = {
    "Small tasks": ("imap", "apply_async", "map"),
    "Packing, the parent, locks, beginnings": ("tasks", "heavy", "parent", "Lock", "Pool"),
}
"""Of the picture of ratios: its panels, and how the names of their figures begin."""
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "scale",  # the same file for the same figures
}


@dataclass
class Curve:
    """One figure for each number of workers that it was measured for, by peer."""

    name: str
    unit: str
    better: str
    workers: list[int] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    values: dict[str, list[list[float]]] = field(default_factory=dict)
    medians: dict[str, list[float]] = field(default_factory=dict)


def row(figure: str, workers: int) -> str:
    """The name of a figure for so many workers."""
    return f"{figure}, W={workers}"


def curves_of(document: dict[str, Any]) -> list[Curve]:
    """The figures that both have, in the order of the document."""
    found: dict[str, Curve] = {}
    for metric in document["metrics"]:
        figure, _, workers = metric["name"].rpartition(", W=")
        if SUBJECT not in metric["ratios"]:
            continue
        curve = found.setdefault(figure, Curve(figure, metric["unit"], metric["better"]))
        curve.workers.append(int(workers))
        curve.ratios.append(metric["ratios"][SUBJECT])
        for peer in (SUBJECT, BASELINE):
            curve.values.setdefault(peer, []).append(metric["values"][peer])
            curve.medians.setdefault(peer, []).append(metric["medians"][peer])
    return list(found.values())


def table(curves: list[Curve]) -> list[str]:
    """Return the ratios, and what was measured, as a table in Markdown."""
    counts = sorted({workers for curve in curves for workers in curve.workers})
    lines = ["| figure | " + " | ".join(f"W={count}" for count in counts) + " |"]
    lines.append("| --- |" + " ---: |" * len(counts))
    for curve in curves:
        measured = zip(curve.workers, curve.ratios, curve.medians[SUBJECT], strict=True)
        cells = {
            workers: f"{ratio:.2f}x ({number(ours)} {curve.unit})"
            for workers, ratio, ours in measured
        }
        entries = (cells.get(count, "") for count in counts)
        lines.append(f"| {curve.name} | " + " | ".join(entries) + " |")
    return lines


def caption(document: dict[str, Any], most: int) -> str:
    """Say what was measured where, and what was unusual."""
    machine = document["machine"]
    version = machine["versions"].get(SUBJECT, "?")
    where = (
        f"{machine['cores']} cores ({machine['processor']}), {machine['system']}, "
        f"CPython {machine['python']}, garrison {version}, {document['date']}."
    )
    how = f"Medians of {document['rounds']} rounds; in each the two libraries take turns."
    if most > machine["cores"]:
        how += f" Grey: more workers than cores ({machine['cores']})."
    if document["neighbours"] > ALONE:
        how += f" Other programs used {document['neighbours']:.0%} of the machine meanwhile."
    return f"{where}\n{how}"


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move labels apart, in their order, until each two are a gap apart."""
    order = sorted(range(len(places)), key=places.__getitem__)
    groups: list[list[float]] = []  # the middle, and how many labels are around it
    for index in order:
        middle, count = places[index], 1.0
        while groups and middle - groups[-1][0] < gap * (count + groups[-1][1]) / 2:
            other, others = groups.pop()
            middle = (middle * count + other * others) / (count + others)
            count += others
        groups.append([middle, count])
    moved = (
        middle + gap * (number - (count - 1) / 2)
        for middle, count in groups
        for number in range(int(count))
    )
    return [place for _, place in sorted(zip(order, moved, strict=True))]


def draw(file: Path, out: Path) -> list[str]:
    """Write the pictures of a result of `scale.py`; return it as a table."""
    mpl = importlib.import_module("matplotlib")
    document = json.loads(file.read_text(encoding="utf-8"))
    curves = curves_of(document)
    most = max(workers for curve in curves for workers in curve.workers)
    cores, text = document["machine"]["cores"], caption(document, most)
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        pictures = {"scale-ratios": ratios(curves, cores), "scale-figures": figures(curves, cores)}
        for name, picture in pictures.items():
            save(picture, text, out / name)
    return table(curves)


def save(picture: Any, text: str, place: Path) -> None:
    picture.supxlabel(text, x=0.005, ha="left", fontsize=8, color=GREY)
    for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
        picture.savefig(place.with_suffix(suffix), dpi=130, metadata=metadata)


def ratios(curves: list[Curve], cores: int) -> Any:
    """How many times better than the standard library: a line for each figure."""
    picture = blank(11, 5.2)
    picture.suptitle(
        "How many times better than the standard library, by the number of workers",
        x=0.005,
        ha="left",
    )
    every = [1.0, *(ratio for curve in curves for ratio in curve.ratios)]
    limits = min(every) / 1.15, max(every) * 1.25
    panels = picture.subplots(1, len(PANELS), sharey=True)
    for axes, (title, beginnings) in zip(panels, PANELS.items(), strict=True):
        shown = [curve for curve in curves if curve.name.startswith(beginnings)]
        axes.set_title(title)
        workers_axis(axes, shown, cores)
        values_axis(axes, limits, is_log=True)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}x")
        axes.set_xlabel("workers")
        axes.axhline(1, color="black", linewidth=1)
        for curve, colour in zip(shown, COLOURS, strict=False):
            axes.plot(curve.workers, curve.ratios, color=colour, marker="o", markersize=4)
        ends = [(curve.name, curve.workers[-1], curve.ratios[-1]) for curve in shown]
        label(axes, ends, COLOURS, lines=24)
    return picture


def figures(curves: list[Curve], cores: int) -> Any:
    """What was measured itself: a panel for each figure, with the spread of the rounds."""
    rows = math.ceil(len(curves) / COLUMNS)
    picture = blank(11, 2.1 * rows + 0.9)
    picture.suptitle("By the number of workers; pale: the spread of the rounds", x=0.005, ha="left")
    panels = picture.subplots(rows, COLUMNS, squeeze=False).flat
    for axes, curve in zip(panels, curves, strict=False):
        workers_axis(axes, [curve], cores)
        values_axis(axes, *scale_of(curve))
        less = ", less is better" if curve.better == "lower" else ""
        axes.set_title(f"{curve.name} [{curve.unit}{less}]")
        if curve.unit == "x ideal":
            axes.axhline(1, color="black", linewidth=1)
        for peer, colour in PEERS.items():
            spans = (
                [min(values) for values in curve.values[peer]],
                list(map(max, curve.values[peer])),
            )
            axes.fill_between(curve.workers, *spans, color=colour, alpha=0.15, linewidth=0)
            axes.plot(curve.workers, curve.medians[peer], color=colour, marker="o", markersize=3)
        ends = [(NAMES[peer], curve.workers[-1], curve.medians[peer][-1]) for peer in PEERS]
        label(axes, ends, tuple(PEERS.values()), lines=9)
    for axes in list(picture.axes)[len(curves) :]:
        axes.remove()
    return picture


def blank(width: float, height: float) -> Any:
    # Not through pyplot, which would look for a display.
    figure = importlib.import_module("matplotlib.figure")
    return figure.Figure(figsize=(width, height), layout="constrained")


def scale_of(curve: Curve) -> tuple[tuple[float, float], bool]:
    """The limits of its values, and whether they lie far enough apart for logarithms."""
    every = [value for rounds in curve.values.values() for values in rounds for value in values]
    least, most = min(every), max(every)
    if least > 0 and most / least > 8:
        return (least / 1.5, most * 1.5), True
    return (0.0, most * 1.1), False


def workers_axis(axes: Any, curves: list[Curve], cores: int) -> None:
    """Doublings are equally far apart, and where workers share cores is grey."""
    counts = sorted({workers for curve in curves for workers in curve.workers})
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, map(str, counts))
    axes.set_xlim(counts[0] / 1.1, counts[-1] * 1.1)
    if counts[-1] > cores:
        axes.axvspan(cores, counts[-1] * 1.1, color="#eeeeee", linewidth=0, zorder=0)


def values_axis(axes: Any, limits: tuple[float, float], is_log: bool) -> None:
    axes.set_yscale("log" if is_log else "linear")
    if is_log:
        ticker = importlib.import_module("matplotlib.ticker")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.set_ylim(*limits)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(axis="y", color="#e0e0e0", linewidth=0.6)
    axes.set_axisbelow(True)


def label(
    axes: Any, ends: list[tuple[str, int, float]], colours: Sequence[str], lines: int
) -> None:
    """Write the name of each line at its end; so many lines of text would fill the height."""
    (low, high), is_log = axes.get_ylim(), axes.get_yscale() == "log"
    low, high = (math.log(low), math.log(high)) if is_log else (low, high)
    places = [math.log(value) if is_log else value for _, _, value in ends]
    for (name, workers, value), place, colour in zip(
        ends, spread(places, (high - low) / lines), colours, strict=False
    ):
        axes.annotate(
            name,
            (workers, value),
            (1.03, (place - low) / (high - low)),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5},
        )
