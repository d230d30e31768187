"""Every exception of garrison has one root, so a program can catch all of them by one name."""

from __future__ import annotations

import inspect
import pkgutil
import queue

import pytest

import garrison
from garrison import errors
from optional import import_or_skip

CONTROL_FLOW = {"Forked", "Interrupted", "TaskInterrupt", "_Cancelled"}
"""Below `BaseException` on purpose: no `except Exception` of the user's may stop them."""


def module_names() -> list[str]:
    """Return the names of all modules that garrison itself has written."""
    found = pkgutil.walk_packages(garrison.__path__, "garrison.")
    return [each.name for each in found if not each.name.endswith("__main__")]


@pytest.mark.parametrize("name", module_names())
def test_every_exception_derives_from_garrison_error(name: str) -> None:
    module = import_or_skip(name)
    own = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, BaseException) and each.__module__ == name
    ]
    strays = [each.__name__ for each in own if not issubclass(each, errors.GarrisonError)]
    assert set(strays) <= CONTROL_FLOW


def test_every_public_error_can_be_caught_by_the_root() -> None:
    public = [getattr(errors, name) for name in errors.__all__]
    standard = {getattr(queue, "ShutDown", None), errors.TaskInterrupt}
    assert all(issubclass(each, errors.GarrisonError) for each in public if each not in standard)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("SharedMemoryCorrupt", OSError),
        ("SharedMemoryFull", MemoryError),
        ("StoreFull", MemoryError),
        ("StoreBusy", BlockingIOError),
        ("StoreCorrupt", OSError),
        ("StoreVersion", OSError),
        ("ContainerGone", ReferenceError),
        ("WrongKind", TypeError),
        ("ChannelError", ConnectionError),
    ],
)
def test_errors_of_the_core_are_builtin_ones_too(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), builtin)


def test_a_lost_tasks_repr_says_what_happened() -> None:
    facts = {"pid": 7, "signal": 9, "exitcode": -9, "stack": "File ..."}
    died = errors.WorkerDied("work(1)", facts)
    assert repr(died) == "WorkerDied('worker 7 was killed by SIGKILL while running work(1)')"
    late = errors.TaskTimeout("work(1)", {"timeout": 0.5})
    assert repr(late) == "TaskTimeout('work(1) took longer than 0.5 s')"
