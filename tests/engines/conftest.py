"""The suite's fixtures: an engine, and a pool of it; counts for each engine at the end.

Each test with the fixture `engine` or `pool` runs over every engine of `subjects.all_subjects`. A
test that is marked ``@pytest.mark.needs("timeout")`` is skipped where the engine does not have
that, with its reason.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import garrison

from .ray_nodes import ALL_OF_SUITE
from .subjects import Subject, all_subjects
from .tasks import Marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

if ALL_OF_SUITE in os.environ:
    from .ray_nodes import _module_leaves_nothing, _test_leaves_nothing  # noqa: F401

_passed: Counter[str] = Counter()
_failed: Counter[str] = Counter()
_skipped: dict[str, Counter[str]] = {}
_elsewhere: list[str] = []
"""Counts of runs in processes of their own."""


@pytest.fixture(scope="session", params=all_subjects(), ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """An engine, with all that it needs running."""
    found: Subject = request.param
    if found.missing:
        yield found
        return
    with found.running():
        yield found


@pytest.fixture
def engine(request: pytest.FixtureRequest, subject: Subject) -> Subject:
    """The engine; the test is skipped if it cannot do what the test needs."""
    request.node.user_properties.append(("engine", subject.name))
    if subject.missing:
        pytest.skip(subject.missing)
    for each in request.node.iter_markers("needs"):
        for capability in each.args:
            if capability in subject.lacks:
                pytest.skip(f"{subject.name}: {subject.lacks[capability]}")
    return subject


@pytest.fixture(scope="module")
def _shared_pools(subject: Subject) -> Iterator[dict[str, garrison.Pool]]:
    pools: dict[str, garrison.Pool] = {}
    yield pools
    for pool in pools.values():
        pool.terminate()
        pool.join()


@pytest.fixture
def pool(
    request: pytest.FixtureRequest, engine: Subject, _shared_pools: dict[str, garrison.Pool]
) -> Iterator[garrison.Pool]:
    """A pool of two workers; a test must leave it as it was."""
    if engine.shares_pool:
        if engine.name not in _shared_pools:
            _shared_pools[engine.name] = engine.pool(2)
        yield _shared_pools[engine.name]
        return
    pool = engine.pool(2)
    try:
        # pytest keeps what a fixture gives, and a pool keeps its memory.
        yield weakref.proxy(pool)
    finally:
        pool.terminate()
        pool.join()
        del pool


@pytest.fixture
def marks(tmp_path: Path) -> Callable[[str], Marks]:
    """Return marks by their name."""
    return lambda name: Marks(tmp_path / name)


# --- Counts ---------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(capability, ...): what an engine must be able to do")


def pytest_runtest_logreport(report: Any) -> None:
    properties = dict(report.user_properties)
    name = properties.get("engine")
    if report.when == "call" and "counts" in properties:
        _elsewhere.append(properties["counts"])
    if name is None:
        return
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ").removeprefix(f"{name}: ")
        _skipped.setdefault(name, Counter())[reason] += 1
    elif report.failed:
        _failed[name] += 1
    elif report.when == "call":
        _passed[name] += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    write = terminalreporter.write_line
    names = dict.fromkeys([*_passed, *_failed, *_skipped])
    if names or _elsewhere:
        terminalreporter.section("engines")
    for counts in _elsewhere:
        write(counts)
    for name in names:
        skipped = _skipped.get(name, Counter())
        failed = f", {_failed[name]} failed" if _failed[name] else ""
        write(f"{name}: {_passed[name]} passed, {skipped.total()} skipped{failed}")
        for reason, count in skipped.most_common():
            write(f"    {count} skipped: {reason}")
