"""Figures by the number of workers: what is ideal, and the pictures."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("these tests do not run against an installed wheel", allow_module_level=True)


def loaded(*names: str) -> list[Any]:
    """Import modules of the benchmarks, some of which are called as modules of tests are."""
    own = {file.stem for file in BENCHMARKS.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in own & sys.modules.keys()}
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in own & sys.modules.keys():
            del sys.modules[name]
        sys.modules.update(others)


curves, packing, scale = loaded("curves", "packing", "scale")

MACHINE = {
    "cores": 2,
    "processor": "a processor",
    "system": "Linux 6.1",
    "python": "3.12.1",
    "versions": {"garrison": "0.1.0"},
}
COUNTS = (1, 2, 4)


def metric(name: str, unit: str, ours: float, theirs: float) -> dict[str, Any]:
    medians = {"garrison": ours, "multiprocessing": theirs}
    return {
        "name": name,
        "unit": unit,
        "better": "higher",
        "medians": medians,
        "ratios": {"garrison": ours / theirs, "multiprocessing": 1.0},
        "values": {peer: [value * 0.9, value * 1.1] for peer, value in medians.items()},
    }


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "machine": MACHINE,
        "date": "2026-01-02",
        "rounds": 2,
        "neighbours": 0.3,
        "metrics": [
            metric(curves.row(name, workers), "k/s", ours * workers, 10.0)
            for name, ours in (("imap, dicts", 100.0), ("Lock, all at once", 5.0))
            for workers in COUNTS
        ],
    }


@pytest.mark.parametrize(
    ("lengths", "workers", "seconds"),
    [([1.0] * 8, 2, 4.0), ([1.0] * 8, 1, 8.0), ([5.0, 1.0, 1.0], 2, 5.0), ([3.0], 16, 3.0)],
)
def test_ideal_is_an_even_share_or_the_longest_task(
    lengths: list[float], workers: int, seconds: float
) -> None:
    assert packing.ideal(lengths, workers) == seconds


def test_a_heavy_tail_is_the_same_each_time_and_as_long_as_asked() -> None:
    lengths = packing.mixed(0.5)
    assert lengths == packing.mixed(0.5)
    assert sum(lengths[:-1]) < 0.5 <= sum(lengths)


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])]
)
def test_workers_double_up_to_the_cores(cores: int, counts: list[int]) -> None:
    assert scale.up_to(cores) == counts


def test_labels_move_apart_and_keep_their_order() -> None:
    moved = curves.spread([1.0, 5.0, 1.1, 1.05, 9.0], 1.0)
    assert moved == pytest.approx([0.05, 5.0, 2.05, 1.05, 9.0])
    assert curves.spread([], 1.0) == []


def test_labels_that_were_moved_push_others() -> None:
    assert curves.spread([0.0, 0.0, 1.2], 1.0) == pytest.approx([-0.6, 0.4, 1.4])


def test_curves_have_the_figures_of_all_numbers_of_workers(document: dict[str, Any]) -> None:
    dicts, lock = curves.curves_of(document)
    assert (dicts.name, dicts.workers, dicts.ratios) == ("imap, dicts", [1, 2, 4], [10, 20, 40])
    assert lock.medians["garrison"] == [5, 10, 20]


def test_a_figure_that_one_does_not_have_has_no_curve(document: dict[str, Any]) -> None:
    for entry in document["metrics"][:3]:
        del entry["ratios"]["garrison"]
    assert [curve.name for curve in curves.curves_of(document)] == ["Lock, all at once"]


def test_the_caption_names_machine_date_versions_and_what_was_unusual(
    document: dict[str, Any],
) -> None:
    text = curves.caption(document, 4)
    assert "2 cores (a processor), Linux 6.1, CPython 3.12.1, garrison 0.1.0, 2026-01-02" in text
    assert "more workers than cores (2)" in text
    assert "30%" in text
    assert "more workers" not in curves.caption(document, 2)


@pytest.mark.parametrize(("low", "is_log"), [(1.0, True), (50.0, False), (0.0, False)])
def test_values_far_apart_get_logarithms(low: float, is_log: bool) -> None:
    curve = curves.Curve("a", "k/s", "higher", values={"garrison": [[low], [100.0]]})
    limits, found = curves.scale_of(curve)
    assert found is is_log
    assert limits[0] <= low < 100 < limits[1]


def test_each_figure_that_is_measured_is_in_one_panel() -> None:
    for measured in scale.METRICS:
        assert sum(measured.name.startswith(names) for names in curves.PANELS.values()) == 1
    for names in curves.PANELS.values():
        shown = [measured for measured in scale.METRICS if measured.name.startswith(names)]
        assert len(shown) <= len(curves.COLOURS)


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="matplotlib, of the dependency group bench, is not installed",
)
def test_pictures_are_drawn_from_a_result_and_the_same_each_time(
    document: dict[str, Any], tmp_path: Path
) -> None:
    result = tmp_path / "scale.json"
    result.write_text(json.dumps(document), encoding="utf-8")
    first, again = (drawn(result, tmp_path / folder) for folder in ("first", "again"))
    assert first[0].read_bytes().startswith(b"\x89PNG")
    text = first[1].read_text(encoding="utf-8")
    for said in ("imap, dicts", "Lock, all at once", "2026-01-02", "workers"):
        assert said in text
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]


def drawn(result: Path, out: Path) -> list[Path]:
    """The files, drawn in a process of their own: matplotlib keeps fonts open."""
    program = str(BENCHMARKS / "scale.py")
    command = [sys.executable, program, "--draw", str(result), "--out", str(out)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "| Lock, all at once | 0.50x (5 k/s) | 1.00x (10 k/s) | 2.00x (20 k/s) |" in said
    kinds = ("ratios.png", "ratios.svg", "figures.png", "figures.svg")
    return [out / f"scale-{kind}" for kind in kinds]
