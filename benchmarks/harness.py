"""Measure garrison and its peers alternately, and say how they compare.

A benchmark is one file with one claim. Each of its turns, one library in one round, is a process
of its own, so that no library pays for another's threads, idle workers or memory:

    round 1: garrison, multiprocessing, loky, ...     the order moves on by one in each round,
    round 2: multiprocessing, loky, ..., garrison     the median of the rounds counts

    python benchmarks/NAME.py [--quick] [--rounds N] [--peers A,B] [--compare OLD]

The table goes to standard output, all that was measured to benchmarks/results/NAME.json. With
--compare it says what has moved since an earlier such file, or one in a folder of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import compare
import machine

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BASELINE = "multiprocessing"
SUBJECT = "garrison"
EVERYONE = (SUBJECT, BASELINE, "concurrent.futures", "loky", "joblib", "mpire", "pebble")
WORKERS = 2
SECONDS_FOR_A_TURN = 180.0

Values = dict[str, float]


class Unsupported(Exception):
    """The library has no such operation."""


@dataclass(frozen=True)
class Goal:
    """What garrison should reach: so many times a peer, a bound, or the best peer."""

    kind: Literal["times", "at most", "at least", "best peer"]
    bound: float = 1.0
    peer: str = BASELINE

    def text(self, unit: str) -> str:
        """Say it in a table."""
        if self.kind == "best peer":
            return "as the best peer"
        if self.kind == "times":
            return f"{self.bound:.3g}x" + (f" {self.peer}" if self.peer != BASELINE else "")
        return f"{'<=' if self.kind == 'at most' else '>='} {self.bound:g} {unit}"


@dataclass(frozen=True)
class Metric:
    """One figure of a benchmark."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    reach: Goal | None = None
    aim: Goal | None = None

    def ratio(self, value: float, baseline: float) -> float:
        """How many times better `value` is than `baseline`."""
        worse, good = (baseline, value) if self.better == "higher" else (value, baseline)
        return good / worse if worse else float("inf")

    def met(self, goal: Goal, medians: Values) -> bool | None:
        """Whether garrison reached the goal; None where that cannot be told."""
        others = [value for peer, value in medians.items() if peer != SUBJECT]
        is_absolute = goal.kind in {"at most", "at least"}
        if SUBJECT not in medians or not (is_absolute or others):
            return None
        value = medians[SUBJECT]
        if is_absolute:
            return value <= goal.bound if goal.kind == "at most" else value >= goal.bound
        if goal.kind == "best peer":
            return all(self.ratio(value, other) >= 1 for other in others)
        return goal.peer in medians and self.ratio(value, medians[goal.peer]) >= goal.bound


@dataclass(frozen=True)
class Benchmark:
    """A claim, and how one turn of one library measures it."""

    name: str
    claim: str
    metrics: tuple[Metric, ...]
    turn: Callable[[str, bool], Values]  # (peer, quick) -> {metric: value}
    peers: tuple[str, ...] = EVERYONE
    rounds: int = 5
    note: str = ""
    summary: Callable[[dict[str, float]], str] | None = None  # {metric: ratio to the baseline}
    arguments: tuple[str, ...] = ()  # of its own, for the processes of its turns
    baseline: str = BASELINE  # the peer that ratios are to


@dataclass
class Measured:
    """All values of a run, by peer and metric, in the order of the rounds."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, peer: str, turn: Values) -> None:
        """Note one turn."""
        for metric, value in turn.items():
            self.values.setdefault(peer, {}).setdefault(metric, []).append(value)

    def medians(self, metric: str) -> Values:
        """The median of each peer that has this metric."""
        return {
            peer: statistics.median(metrics[metric])
            for peer, metrics in self.values.items()
            if metric in metrics
        }


def main(benchmark: Benchmark, arguments: list[str] | None = None) -> None:
    """Run a benchmark from its command line, or from what that has beside options of its own."""
    options = _options(benchmark, arguments)
    if options.turn:
        _take_turn(benchmark, options.turn, quick=options.quick)
        return
    old = compare.old_document(options.compare, benchmark.name) if options.compare else None
    started, meter = time.monotonic(), machine.Meter()
    print(f"\n== {benchmark.name}: {benchmark.claim}")
    command = [sys.executable, sys.argv[0], *benchmark.arguments]
    command += ["--quick"] if options.quick else []
    measured = _run(options.peers, options.rounds, command)
    print(_table(benchmark, measured))
    if benchmark.note:
        print(benchmark.note)
    if benchmark.summary:
        print(benchmark.summary(_ratios(benchmark, measured)))
    neighbours = meter.share_of_others()
    took = f"{options.rounds} rounds, {time.monotonic() - started:.0f} s"
    print(f"({took}; other programs used {neighbours:.0%} of the machine meanwhile)", flush=True)
    document = _save(benchmark, measured, options, neighbours)
    if old is not None:
        lines = compare.moved(old, document) or ["no figure has moved by more than the noise"]
        print(f"against {options.compare}:", *lines, sep="\n  ", flush=True)


def _ratios(benchmark: Benchmark, measured: Measured) -> dict[str, float]:
    """How many times better than the baseline garrison is, in what both have measured."""
    medians = {metric: measured.medians(metric.name) for metric in benchmark.metrics}
    return {
        metric.name: metric.ratio(values[SUBJECT], values[benchmark.baseline])
        for metric, values in medians.items()
        if values.keys() >= {SUBJECT, benchmark.baseline}
    }


def _options(benchmark: Benchmark, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=benchmark.claim)
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds: a trial")
    parser.add_argument("--rounds", type=int, help=f"default {benchmark.rounds}")
    parser.add_argument("--peers", help="comma-separated; default: " + ",".join(benchmark.peers))
    parser.add_argument("--compare", metavar="OLD", help="a result, or a folder of results")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.peers = options.peers.split(",") if options.peers else list(benchmark.peers)
    if options.rounds is None:
        options.rounds = min(2, benchmark.rounds) if options.quick else benchmark.rounds
    return options


def _run(peers: list[str], rounds: int, command: list[str]) -> Measured:
    measured = Measured()
    for number in range(rounds):
        first = number % len(peers)
        for peer in peers[first:] + peers[:first]:
            if peer not in measured.missing:
                _note_turn(measured, peer, command)
    return measured


def _note_turn(measured: Measured, peer: str, command: list[str]) -> None:
    answer = _turn_in_a_process([*command, "--turn", peer])
    if isinstance(answer, str):
        measured.missing[peer] = answer
        measured.values.pop(peer, None)
    else:
        measured.add(peer, answer)


def _turn_in_a_process(command: list[str]) -> Values | str:
    """Run this very file for one turn; the answer is the values, or why there are none."""
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        out, err = process.communicate(timeout=SECONDS_FOR_A_TURN)
    except subprocess.TimeoutExpired:
        return f"hangs: no result in {SECONDS_FOR_A_TURN:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return _answer(process.returncode, out, err)


def _answer(code: int, out: str, err: str) -> Values | str:
    if code != 0 or not out:
        last = err.strip().splitlines()[-1:] or ["nothing was said"]
        return f"failed with exit code {code}: {last[0]}"
    answer: Values | str = json.loads(out.splitlines()[-1])
    return answer


def _take_turn(benchmark: Benchmark, peer: str, *, quick: bool) -> None:
    try:
        answer: Values | str = benchmark.turn(peer, quick)
    except ImportError as error:
        answer = f"not installed: {error}"
    except Unsupported as error:
        answer = f"cannot: {error}"
    print(json.dumps(answer), flush=True)


def _table(benchmark: Benchmark, measured: Measured) -> str:
    head = ["", *(f"{m.name} [{m.unit}]" for m in benchmark.metrics)]
    rows = [
        [
            peer,
            *(
                _cell(measured.medians(metric.name), metric, peer, benchmark.baseline)
                for metric in benchmark.metrics
            ),
        ]
        for peer in measured.values
    ]
    table = [head, *rows]
    if len(head) > len(rows) + 6:
        # A metric that nobody has (a size left out, a library that is not installed) says nothing.
        table = [row for row in map(list, zip(*table, strict=True)) if set(row[1:]) != {"-"}]
    lines = aligned(table)
    lines += [f"{peer}: {reason}" for peer, reason in measured.missing.items()]
    return "\n".join(lines)


def _cell(medians: Values, metric: Metric, peer: str, baseline: str) -> str:
    if peer not in medians:
        return "-"
    text = number(medians[peer])
    if baseline in medians and peer != baseline:
        text += f" ({metric.ratio(medians[peer], medians[baseline]):.2f}x)"
    return text


def aligned(rows: list[list[str]]) -> list[str]:
    """Pad the columns of a table: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def number(value: float) -> str:
    """Three significant digits, and no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.5f}"


def _save(
    benchmark: Benchmark, measured: Measured, options: argparse.Namespace, neighbours: float
) -> dict[str, Any]:
    RESULTS.mkdir(exist_ok=True)
    document = {
        "name": benchmark.name,
        "claim": benchmark.claim,
        "baseline": benchmark.baseline,
        "note": benchmark.note,
        "quick": options.quick,
        "rounds": options.rounds,
        "neighbours": neighbours,
        "machine": machine.description((*EVERYONE, "numpy")),
        "date": time.strftime("%Y-%m-%d"),
        "missing": measured.missing,
        "metrics": [
            _metric_document(metric, measured, benchmark.baseline) for metric in benchmark.metrics
        ],
    }
    file = RESULTS / f"{benchmark.name}.json"
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document


def _metric_document(metric: Metric, measured: Measured, baseline: str) -> dict[str, Any]:
    medians = measured.medians(metric.name)
    goals = {"reach": metric.reach, "aim": metric.aim}
    return {
        "name": metric.name,
        "unit": metric.unit,
        "better": metric.better,
        **{name: goal.text(metric.unit) if goal else "" for name, goal in goals.items()},
        **{f"{name} met": metric.met(goal, medians) for name, goal in goals.items() if goal},
        "medians": medians,
        "ratios": {
            peer: metric.ratio(value, medians[baseline])
            for peer, value in medians.items()
            if baseline in medians
        },
        "values": {
            peer: metrics[metric.name]
            for peer, metrics in measured.values.items()
            if metric.name in metrics
        },
    }
