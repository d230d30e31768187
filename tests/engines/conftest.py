"""The suite's fixtures: an engine, and a pool of it; counts for each engine at the end.

Each test with the fixture `engine` or `pool` runs over every engine of `subjects.all_subjects`. A
test that is marked ``@pytest.mark.needs("timeout")`` is skipped where the engine does not have
that, with its reason.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import garrison

from . import counts
from .ray_nodes import ALL_OF_SUITE
from .subjects import Subject, all_subjects
from .tasks import Marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

if ALL_OF_SUITE in os.environ:
    from .ray_nodes import _test_leaves_nothing  # noqa: F401

_HERE = [subject for subject in all_subjects() if not subject.missing]


@pytest.fixture(scope="module", autouse=True)
def _module_leaves_nothing() -> None:
    """Each test is looked at; what an engine has running lasts longer than a module."""


@pytest.fixture(scope="package", params=_HERE, ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """An engine, with all that it needs running: not beside the tests of other folders."""
    found: Subject = request.param
    with found.running():
        yield found


@pytest.fixture
def engine(request: pytest.FixtureRequest, subject: Subject) -> Subject:
    """The engine; the test is skipped if it cannot do what the test needs."""
    request.node.user_properties.append(("engine", subject.name))
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
    name = dict(report.user_properties).get("engine")
    if name is None:
        return
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ").removeprefix(f"{name}: ")
        counts.of(name).skipped[reason] += 1
    elif report.failed:
        counts.of(name).failed += 1
    elif report.when == "call":
        counts.of(name).passed += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts.save()
    lines = counts.lines()
    if lines:
        terminalreporter.section("engines")
    for line in lines:
        terminalreporter.write_line(line)
