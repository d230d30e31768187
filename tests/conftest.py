"""Every test under a watchdog, and nothing left behind by any of them."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING, Any

import pytest

from footprint import Footprint, put_mark
from garrison import _core
from waiting import becomes_true
from watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS_FOR_A_TEST = 30.0
SECONDS_TO_GO = 2.0

# Its thread pool and its descriptors are numpy's, not those of the first test to use it.
with contextlib.suppress(ImportError):
    importlib.import_module("numpy")

# A process that the watchdog aborts can then say where it was, after an exec as well.
os.environ.setdefault("PYTHONFAULTHANDLER", "1")

# A run in the background of a shell, or under nohup, has inherited that these be ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_MARK = put_mark()


@pytest.fixture(scope="session")
def _watchdog(pytestconfig: pytest.Config) -> Iterator[Watchdog]:
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():  # else a dump would go where nobody looks
        stderr = os.dup(2)
    watchdog = Watchdog(_MARK, stderr)
    _core.trace_faults(stderr)
    yield watchdog
    watchdog.close()


@pytest.fixture(scope="session", autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Identities of servers, and known servers, of the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="module", autouse=True)
def _module_leaves_nothing(_watchdog: Watchdog) -> Iterator[None]:
    with leaves_nothing():
        yield


@pytest.fixture(autouse=True)
def _test_leaves_nothing(request: pytest.FixtureRequest, _watchdog: Watchdog) -> Iterator[None]:
    mark = request.node.get_closest_marker("watchdog")
    _watchdog.expect(request.node.nodeid, mark.args[0] if mark else SECONDS_FOR_A_TEST)
    try:
        with leaves_nothing():
            yield
    finally:
        _watchdog.stand_down()


@contextlib.contextmanager
def leaves_nothing(seconds: float = SECONDS_TO_GO) -> Iterator[None]:
    """Fail if the block leaves a process, thread, descriptor or memfd mapping behind."""
    before = Footprint(_MARK)
    yield
    _stop_stdlib_helpers()
    leaks = _leaks_since(before, seconds)
    if leaks:
        pytest.fail("left behind:\n  " + "\n  ".join(leaks), pytrace=False)


def _leaks_since(before: Footprint, seconds: float) -> list[str]:
    leaks = Footprint(_MARK).taken_since(before)
    if leaks:
        leaks = _kept_since(before)
    if leaks:  # a killed process takes a moment to be gone
        if becomes_true(lambda: not Footprint(_MARK).taken_since(before), seconds):
            return []
        leaks = _kept_since(before)
    return leaks


def _kept_since(before: Footprint) -> list[str]:
    # What only a cycle still holds is garbage, not a leak; a thread may let go of one at any time.
    gc.collect()
    return Footprint(_MARK).taken_since(before)


def _stop_stdlib_helpers() -> None:
    # The standard library keeps these until the interpreter ends, on purpose.
    tracker, server = resource_tracker._resource_tracker, forkserver._forkserver
    server._stop()  # type: ignore[attr-defined]
    ours: Any = sys.modules.get("garrison.supervisor._fork_server")
    if ours is not None:
        ours.stop()
    tracker._stop()  # type: ignore[attr-defined]
