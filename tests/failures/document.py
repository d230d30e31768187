"""Write docs/failures.md from the rows and from the record of the standard library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .registry import METHODS, Row, all_rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "failures.md"
RECORD = Path(__file__).with_name("stdlib.json")

_HEAD = """\
# What goes wrong between processes, and must not here

<!-- Written by `python -m tests.failures.record`; edit the scenarios, not this page. -->

Each row is a scenario that runs under `fork`, `spawn` and `forkserver`, in a process and a session
of its own, under a watchdog that dumps all stacks. Afterwards no process, no temporary file and no
file in `/dev/shm` may be left. *Hangs* means neither a result nor an error within 8 s.

garrison passes every row under every start method. `pytest tests/failures -k NAME` runs the row
NAME: `test_scenario_passes` runs it on garrison, `test_recorded_outcome_is_documented` compares the
column *standard library* with the scenario's description. That column was observed once, with
Python {python} on {system}: `python -m tests.failures.record` observes it again. Rows in which the
standard library is fine are kept: garrison must not break them either.

A number after gh- is that of an issue or a pull request of CPython, others name their project.

Here {broken} of {total} rows break the standard library, under one start method at least.

Not in the tables, since only garrison's test build has them: every named crash point of the core
(`test_crash_points.py`) kills the process that reaches it, once, under a mixed load.
"""

_SEEN_IN = {
    1: "gh-96062, pebble 163",
    2: "gh-66587, gh-82265",
    3: "pebble 97",
    4: "gh-94777",
    5: "gh-105829",
    6: "gh-125451",
    7: "gh-115634, gh-111498",
    9: "gh-76067",
    11: "loky's crash tests",
    13: "gh-84376, pebble 146",
    14: "gh-83371",
    15: "gh-101081",
    17: "loky's tests",
    18: "gh-101586, gh-84291",
    19: "loky 143",
    20: "bpo-8296, pathos 114",
    21: "gh-88628",
    22: "gh-126434, gh-85772",
    23: "gh-78178, gh-96995, gh-79448",
    25: "gh-82682",
    26: "gh-6144",
    27: "gh-90622, gh-91776, gh-105464",
    29: "gh-111873",
    32: "gh-124706, gh-83716, gh-131794",
    34: "gh-146313",
    35: "gh-82300, gh-104291, gh-116849",
    36: "sglang 28089",
    37: "pytorch 5040, 26009, 1355",
    39: "gh-75158",
    40: "gh-123899",
    43: "gh-119937, gh-103136, gh-101320",
    45: "our own measurements",
    48: "pebble 31, 76",
    49: "tini 164",
    50: "pebble 97",
    51: "patches of the kernel's OOM reaper",
    52: "LMDB, glibc",
    54: "boost 128",
}
_GROUPS = {
    "matrix": "The failure matrix",
    "bugs": "Known hard bugs",
    "manager": "Managers",
    "supervisor": "What the supervisor promises",
}


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(json.loads(RECORD.read_text())), encoding="utf-8")


def page(record: dict[str, Any]) -> str:
    """The text of the page."""
    rows = sorted(all_rows().values(), key=_order)
    broken = sum(set(record["rows"][row.name].values()) != {"ok"} for row in rows)
    head = _HEAD.format(**record, broken=broken, total=len(rows))
    tables = [
        f"## {title}\n\n{_table([row for row in rows if _group(row) == group], record)}"
        for group, title in _GROUPS.items()
    ]
    return "\n".join([head, *tables])


def _group(row: Row) -> str:
    return "bugs" if row.source.startswith("#") else row.source


def _order(row: Row) -> int:
    return int(row.source[1:]) if row.source.startswith("#") else 0


def _table(rows: Iterable[Row], record: dict[str, Any]) -> str:
    lines = ["| seen in | what goes wrong | standard library | NAME |", "|---|---|---|---|"]
    for row in rows:
        seen = _seen(record["rows"][row.name])
        cells = [_SEEN_IN.get(_order(row), ""), _cell(row.title), _cell(seen), f"`{row.name}`"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _seen(found: dict[str, str]) -> str:
    """One text if all start methods agree in kind, else one for each."""
    kinds = {text.partition(":")[0] for text in found.values()}
    if len(kinds) == 1:
        return _emphasis(found[METHODS[0]])
    return "; ".join(f"{method}: {_emphasis(found[method])}" for method in METHODS)


def _emphasis(text: str) -> str:
    kind, _, words = text.partition(": ")
    if kind in ("ok", "absent"):
        return words or kind
    return f"**{kind}**: {words}" if words and kind != "hangs" else f"**{kind}**"


def _cell(text: str) -> str:
    """Return a text with what Markdown takes for more than text marked."""
    marked = re.sub(r"([|_]|\*(?=\[)|(?<=\])\[)", r"\\\1", text)
    return marked.replace("<", "&lt;")
