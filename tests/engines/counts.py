"""What the suite did with each engine: tests that passed, and skips with their reason.

A test may run a part of the suite in another process, where an engine has what it needs: it gives
the process `IN_FILE`, and adds what that has counted.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IN_FILE = "GARRISON_TEST_COUNTS"
"""Names, in the environment, the file into which a run writes its counts."""


@dataclass
class Count:
    """The tests of an engine."""

    passed: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


_counts: dict[str, Count] = {}


def of(name: str) -> Count:
    """Return the count of an engine."""
    return _counts.setdefault(name, Count())


def save() -> None:
    """Write the counts for the test that has started this run, if one has."""
    if IN_FILE in os.environ:
        found = {name: (each.passed, each.failed, each.skipped) for name, each in _counts.items()}
        Path(os.environ[IN_FILE]).write_text(json.dumps(found), encoding="utf-8")


def add(file: Path) -> None:
    """Add what another run has counted."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for name, (passed, failed, skipped) in found.items():
        count = of(name)
        count.passed += passed
        count.failed += failed
        count.skipped.update(skipped)


def lines() -> list[str]:
    """Return what is printed at the end."""
    found = []
    for name, count in _counts.items():
        failed = f", {count.failed} failed" if count.failed else ""
        found.append(f"{name}: {count.passed} passed, {count.skipped.total()} skipped{failed}")
        found += [f"    {times} skipped: {why}" for why, times in count.skipped.most_common()]
    return found
