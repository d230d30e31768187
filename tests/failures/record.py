"""Run every scenario on the standard library and write what it does: stdlib.json.

``python -m tests.failures.record [--jobs N] [NAME ...]``; with names, only those rows again.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import document, harness
from .registry import METHODS, Row, all_rows

Observation = tuple[Row, str, str]
RECORD = Path(__file__).with_name("stdlib.json")


def load() -> dict[str, Any]:
    """The record as it is, empty if there is none yet."""
    if not RECORD.exists():
        return {"python": "", "system": "", "rows": {}}
    record: dict[str, Any] = json.loads(RECORD.read_text())
    return record


def main() -> None:
    """Run the rows named on the command line, or all, and write record and page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    rows = all_rows()
    chosen = [rows[name] for name in given.names] or list(rows.values())
    found = {name: found for name, found in load()["rows"].items() if name in rows}
    for row, method, text in _observe_all(chosen, given.jobs):
        found.setdefault(row.name, {})[method] = text
    _write({name: found[name] for name in rows if name in found})
    document.main()


def _observe_all(rows: list[Row], jobs: int) -> Iterator[Observation]:
    with ThreadPoolExecutor(jobs) as threads:
        pairs = [(row, method) for row in rows for method in METHODS]
        seen = list(threads.map(lambda pair: _observe(*pair), pairs))
    for row, method, text in seen:
        # A file in /dev/shm may be that of a scenario next to it, hence once more, alone.
        yield _observe(row, method) if "/dev/shm" in text else (row, method, text)


def _observe(row: Row, method: str) -> Observation:
    if row.only_garrison:
        return row, method, f"absent: {row.only_garrison}"
    outcome = str(harness.run(row, "multiprocessing", method)).splitlines()[0]
    text = _without_details(outcome)
    sys.stderr.write(f"{row.name} {method}: {text}\n")
    return row, method, text


_DIFFERS = {
    r" at 0x[0-9a-f]+": "",
    r"(\d+ s later|left behind): \d+ \(\w\).*": r"\1: processes",
    r"(left behind in TMPDIR): .*": r"\1: temporary folders",
    r"(left behind in /dev/shm): .*": r"\1: semaphores",
}


def _without_details(text: str) -> str:
    """Leave out what differs from run to run and from machine to machine."""
    for pattern, general in _DIFFERS.items():
        text = re.sub(pattern, general, text)
    return text[:120]


def _write(rows: dict[str, dict[str, str]]) -> None:
    record = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "rows": rows,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
