"""A subclass may override what its base binds into its instances."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from garrison._pickling import dumps
from garrison.sync import BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore


@pytest.mark.parametrize("kind", [Lock, RLock, Semaphore, BoundedSemaphore, Condition])
def test_an_overridden_method_is_called_and_finds_the_one_below(kind: Any) -> None:
    class Counted(kind):  # type: ignore[misc] # any of them
        calls = 0

        def acquire(self, *args: Any) -> Any:
            type(self).calls += 1
            return super().acquire(*args)

    lock = Counted()
    assert lock.acquire()
    lock.release()
    assert Counted.calls == 1
    lock.note = "of mine"
    with lock:
        assert lock.note == "of mine"


class Loud(Event):
    def set(self) -> None:
        self.heard = True
        super().set()


def test_an_event_of_a_subclass() -> None:
    event = Loud()
    event.set()
    assert event.heard
    assert event.is_set()
    assert pickle.loads(dumps(event)).is_set()
