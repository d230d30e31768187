"""What has moved between two runs of a benchmark: `python benchmarks/NAME.py --compare OLD`.

In each round garrison and the standard library run one after the other, so their ratio does not
depend on how fast the machine was at that time. A figure has moved if the ratios of all rounds of
one run lie beyond those of the other: without a change, one pair of runs in 126 does with five
rounds each. A figure without a baseline is compared by its values.

pyperf compares absolute times, not ratios of pairs, by a t-test at 95 %: of the 350 figures of
`make bench` it would report 17 that have not moved, this rule three. At the same level (1 in 126)
neither sees more. In simulated runs of five rounds with 7 % of noise, 63 (this rule) and 71 of 100
changes by 20 % show; if one round in eight is disturbed by other programs, 38 and 31.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["moved", "old_document"]

SUBJECT = "garrison"


def old_document(place: str, name: str) -> dict[str, Any]:
    """Return an earlier result: a file, or that of the same name in a folder of results."""
    path = Path(place)
    path = path / f"{name}.json" if path.is_dir() else path
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(f"--compare {place}: {error}")
    except ValueError as error:
        sys.exit(f"--compare {place}: {path} is no result of a benchmark: {error}")
    if document.get("name") != name:
        sys.exit(f"--compare {place}: {path} is a result of {document.get('name')}, not of {name}")
    return document


def moved(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return a line for each figure that has moved by more than the noise."""
    before = {metric["name"]: metric for metric in old["metrics"]}
    lines = []
    for metric in new["metrics"]:
        if metric["name"] not in before:
            continue
        first, unit = _ratios(before[metric["name"]], old["baseline"])
        second, _ = _ratios(metric, new["baseline"])
        if first and second and (max(first) < min(second) or max(second) < min(first)):
            is_better = (max(first) < min(second)) == (metric["better"] == "higher" or unit == "x")
            word = "better" if is_better else "worse"
            lines.append(
                f"{metric['name']}: {_span(first, unit)} before, {_span(second, unit)} now: {word}"
            )
    return lines


def _ratios(metric: dict[str, Any], baseline: str) -> tuple[list[float], str]:
    """The ratio of each round, above 1 if garrison is better; or its values, and their unit."""
    values = metric["values"]
    own, others = values.get(SUBJECT, []), values.get(baseline)
    if not others:
        return own, f" {metric['unit']}"
    pairs = [
        (o, b) if metric["better"] == "higher" else (b, o)
        for o, b in zip(own, others, strict=False)
    ]
    return [good / worse for good, worse in pairs if worse], "x"


def _span(values: list[float], unit: str) -> str:
    return f"{min(values):.3g} to {max(values):.3g}{unit}"
