"""The list of scenarios: what goes wrong, where it was seen, what the standard library does."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Any

from .subject import Subject

METHODS = ("fork", "spawn", "forkserver")

Scenario = Callable[..., None]

_ROW_MODULES = (
    "matrix",
    "deaths",
    "payloads",
    "crashes",
    "callers",
    "endings",
    "interrupts",
    "parents",
    "supervision",
    "limits",
    "namespaces",
    "locks",
    "memory",
    "managers",
)
_rows: dict[str, Row] = {}


@dataclass(frozen=True)
class Row:
    """One scenario.

    Parameters
    ----------
    name
        Its name in the record and in the test ids.
    title
        What goes wrong, in words.
    source
        ``matrix`` (observed by us), ``#9`` (known bug 9), or ``supervisor`` (our own promise).
    run
        The scenario; it takes the module under test as a `Subject`.
    limit
        Seconds until the watchdog dumps all stacks and the tree is killed.
    fine
        Patterns of ``case-method`` under which the standard library is fine, too.
    only_garrison
        Why the scenario cannot be put to the standard library, or an empty string.
    alone
        One start method at a time: what is promised within a second is not to wait for others, and
        what lies in /dev/shm for a while, mapped by nobody, is not to be taken for another's.
    """

    name: str
    title: str
    source: str
    run: Callable[[Subject], None]
    limit: float
    fine: tuple[str, ...]
    case: str
    only_garrison: str
    alone: bool = False

    def stdlib_is_fine(self, method: str) -> bool:
        """Whether the standard library is expected to pass this row under `method`."""
        return any(fnmatch(f"{self.case}-{method}", pattern) for pattern in self.fine)


def row(
    title: str,
    *,
    source: str,
    cases: Collection[str] = (),
    limit: float = 10.0,
    fine: Collection[str] = (),
    only_garrison: str = "",
    alone: bool = False,
) -> Callable[[Scenario], Scenario]:
    """Register a scenario; with `cases`, one row for each, the case as second argument."""

    def register(scenario: Scenario) -> Scenario:
        make: Any = partial(
            Row,
            source=source,
            limit=limit,
            fine=tuple(fine),
            only_garrison=only_garrison,
            alone=alone,
        )
        name = scenario.__name__
        for case in cases:
            _add(make(f"{name}[{case}]", f"{title}: {case}", run=_bind(scenario, case), case=case))
        if not cases:
            _add(make(name, title, run=scenario, case=""))
        return scenario

    return register


def all_rows() -> dict[str, Row]:
    """Every scenario by name, in the order of the modules."""
    for module in _ROW_MODULES:
        importlib.import_module(f"{__package__}.{module}")
    return dict(_rows)


def _bind(scenario: Scenario, case: str) -> Callable[[Subject], None]:
    return lambda subject: scenario(subject, case)


def _add(row: Row) -> None:
    if row.name in _rows:
        message = f"two scenarios are called {row.name}"
        raise ValueError(message)
    _rows[row.name] = row
