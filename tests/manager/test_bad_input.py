"""Arguments that no object can be made of: a RemoteError, and the plain error as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison.managers import RemoteError


@pytest.fixture
def manager() -> Iterator[Any]:
    with garrison.Manager() as started:
        yield started
    vars(started).clear()  # pytest keeps it for a while


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("dict", (5,), TypeError),
        ("dict", (1, 2), TypeError),
        ("list", (5,), TypeError),
        ("list", (1, 2), TypeError),
        ("set", (5,), TypeError),
        ("deque", ([], "many"), TypeError),
        ("Counter", (5,), TypeError),
        ("Array", ("i", 5), TypeError),
        ("Array", ("no code", [1]), TypeError),
        ("Value", (), TypeError),
        ("Barrier", (0,), ValueError),
        ("Barrier", ("two",), TypeError),
        ("Semaphore", (-1,), ValueError),
        ("BoundedSemaphore", (-1,), ValueError),
        ("Lock", (1,), TypeError),
        ("Event", (1,), TypeError),
    ],
)
def test_bad_input_raises_remote_error_and_the_plain_error(
    manager: Any, name: str, arguments: tuple[Any, ...], kind: type
) -> None:
    for expected in (RemoteError, kind):
        with pytest.raises(expected, match=f"cannot make this {name}: "):
            getattr(manager, name)(*arguments)


def test_exception_of_the_users_iterable_is_raised_unchanged(manager: Any) -> None:
    class OddError(ValueError):
        pass

    def members() -> Iterator[int]:
        yield 1
        raise OddError

    with pytest.raises(OddError):
        manager.list(members())
