"""Each scenario on garrison, and what was recorded of it on the standard library."""

from __future__ import annotations

import pytest

from . import document, record
from .registry import METHODS, Row, all_rows
from .together import Together, chosen

ROWS = all_rows()
CASES = [
    pytest.param(row, method, id=f"{method}-{row.name}", marks=pytest.mark.watchdog(row.limit + 15))
    for row in ROWS.values()
    for method in METHODS
]


@pytest.fixture(scope="module")
def together(request: pytest.FixtureRequest) -> Together:
    params = chosen(request, "test_scenario_passes")
    return Together((param["row"].name, param["method"]) for param in params)


@pytest.mark.parametrize(("row", "method"), CASES)
def test_scenario_passes(together: Together, row: Row, method: str) -> None:
    outcome = together.outcome(row, method)
    if outcome.kind == "missing":
        pytest.skip(outcome.text)
    assert outcome.kind == "ok", f"{outcome}\n{outcome.stderr}"


@pytest.mark.parametrize(("row", "method"), CASES)
def test_recorded_outcome_is_documented(row: Row, method: str) -> None:
    seen = record.load()["rows"][row.name][method]
    assert (seen == "ok") == row.stdlib_is_fine(method), seen


def test_record_has_the_rows_of_the_registry() -> None:
    assert list(record.load()["rows"]) == list(ROWS)


def test_failures_page_is_current() -> None:
    assert document.PAGE.read_text(encoding="utf-8") == document.page(record.load())
