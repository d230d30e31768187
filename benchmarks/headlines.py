"""The README's table of ratios, and its picture, from what the benchmarks have measured last.

    python benchmarks/headlines.py --out docs/pictures

`make bench` does that at its end. A figure in which garrison is worse is in the table as well.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import curves
from harness import RESULTS, SUBJECT, number

BETTER, WORSE = "#1f7a6b", "#b0703a"


class Headline(NamedTuple):
    """A figure of a benchmark, as the README calls it."""

    file: str
    metric: str
    label: str


HEADLINES = [
    Headline("apply_latency", "p50", "a small task, there and back"),
    Headline("apply_async_many", "", "20,000 `apply_async`, then `get` each"),
    Headline("imap_small", "imap_unordered", "`imap_unordered` of integers, `chunksize=1`"),
    Headline("imap_small", "imap, tuples", "`imap` of tuples, `chunksize=1`"),
    Headline("map_small", "", "`map` of 200,000 integers, automatic chunks"),
    Headline("arrays", "argument", "an array of 32 MB as argument"),
    Headline("arrays", "result", "an array of 32 MB as result"),
    Headline("queue_between", "tuples", "`Queue` of tuples, from process to process"),
    Headline("value_add", "two at once", "two processes add to one `Value`"),
    Headline("lock_two_processes", "total", "two processes take one `Lock`"),
    Headline("manager_dict", "get", "`manager.dict()`: get"),
    Headline("manager_dict", "set", "`manager.dict()`: set"),
    Headline("executors", "round trip", "`Executor`: submit, then result"),
    Headline("executors", "10,000 submits", "`Executor`: 10,000 submits"),
    Headline("aio_calls", "at once", "asyncio: 10,000 awaits at once"),
    Headline("joblib_backend", "tiny tasks", "joblib: 10,000 tiny tasks"),
    Headline("joblib_backend", "one task with an array", "joblib: a task with an array of 200 MB"),
    Headline("cancel", "stop", "Ctrl-C out of a `map`, until the next answer"),
    Headline("pool_cycle", "fork, 2", "make a pool of 2, first result, close, join"),
    Headline("import_time", "", "`import`"),
]


PEERS = {"executors": "concurrent.futures", "aio_calls": "run_in_executor"}
"""What a benchmark's baseline is of the standard library, where it is not multiprocessing."""


class Figure(NamedTuple):
    """What was measured for a headline."""

    label: str
    ours: str
    theirs: str
    peer: str
    ratio: float


def figures(results: Path) -> list[Figure]:
    """Return what was measured; a benchmark that was not run has no line."""
    found = []
    for headline in HEADLINES:
        file = results / f"{headline.file}.json"
        if file.exists():
            document = json.loads(file.read_text(encoding="utf-8"))
            found.append(figure_of(document, headline))
    return found


def figure_of(document: dict[str, Any], headline: Headline) -> Figure:
    named = {metric["name"]: metric for metric in document["metrics"]}
    metric = named[headline.metric] if headline.metric else document["metrics"][0]
    peer, medians, unit = document["baseline"], metric["medians"], metric["unit"]
    ours, theirs = (f"{number(medians[each])} {unit}" for each in (SUBJECT, peer))
    name = PEERS.get(headline.file, peer)
    return Figure(headline.label, ours, theirs, name, metric["ratios"][SUBJECT])


def table(shown: list[Figure]) -> list[str]:
    """Return the table in Markdown."""
    lines = ["| | garrison | | | ratio |", "| --- | ---: | ---: | --- | ---: |"]
    return lines + [
        f"| {each.label} | {each.ours} | {each.theirs} | {each.peer} | {each.ratio:.3g}x |"
        for each in shown
    ]


def draw(shown: list[Figure], out: Path) -> None:
    """Write the picture: a bar for each figure, from 1x on."""
    mpl = importlib.import_module("matplotlib")
    with mpl.rc_context({**curves.STYLE, "svg.hashsalt": "headlines"}):
        picture = curves.blank(9, 0.8 + 0.3 * len(shown))
        axes = picture.subplots()
        places = range(len(shown), 0, -1)
        colours = [BETTER if each.ratio >= 1 else WORSE for each in shown]
        axes.barh(places, [each.ratio - 1 for each in shown], left=1, color=colours, height=0.65)
        axes.set_xscale("log")
        axes.set_xlim(
            min(0.5, *(each.ratio / 1.5 for each in shown)), 2 * max(each.ratio for each in shown)
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
        axes.set_yticks(places, [each.label.replace("`", "") for each in shown])
        axes.axvline(1, color="black", linewidth=1)
        axes.tick_params(left=False)
        for place, each in zip(places, shown, strict=True):
            end = max(each.ratio, 1) * 1.08
            axes.annotate(f"{each.ratio:.3g}x", (end, place), va="center", fontsize=8.5)
        axes.set_title("How many times better than the library that it takes the place of")
        out.mkdir(parents=True, exist_ok=True)
        for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
            picture.savefig(out / f"ratios{suffix}", dpi=110, metadata=metadata)


def main() -> int:
    """Draw the picture and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    shown = figures(chosen.results)
    if not shown:
        print(f"nothing was measured yet: {chosen.results} is empty", file=sys.stderr)
        return 1
    draw(shown, chosen.out)
    print("\n".join(table(shown)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
