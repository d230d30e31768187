"""Run a row under several start methods at the same time: most of a scenario is waiting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from . import harness
from .registry import METHODS, Row


def chosen(request: pytest.FixtureRequest, test: str) -> list[dict[str, Any]]:
    """The parameters of `test` in all its instances that are going to run."""
    items: list[Any] = request.session.items
    found = [item for item in items if getattr(item, "originalname", "") == test]
    return [item.callspec.params for item in found if item.module is request.module]


class Together:
    """The outcomes on garrison; the first one that is asked for brings those of its row along.

    Parameters
    ----------
    wanted
        Row names with the start methods that are going to be asked for.
    """

    def __init__(self, wanted: Iterable[tuple[str, str]]) -> None:
        self._methods: dict[str, set[str]] = defaultdict(set)
        for name, method in wanted:
            self._methods[name].add(method)
        self._found: dict[tuple[str, str], harness.Outcome] = {}

    def outcome(self, row: Row, method: str) -> harness.Outcome:
        """What became of `row` under `method`."""
        if (row.name, method) not in self._found:
            together = set() if row.alone else self._methods[row.name]
            self._run(row, together | {method})
        return self._found.pop((row.name, method))

    def _run(self, row: Row, methods: set[str]) -> None:
        with ThreadPoolExecutor(len(METHODS)) as threads:
            chosen = sorted(methods)
            outcomes = threads.map(lambda method: harness.run(row, "garrison", method), chosen)
            self._found.update(
                zip(((row.name, method) for method in chosen), outcomes, strict=True)
            )
