"""Ctrl-C at every line of a step: it is done or not, and no transaction stays open."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import garrison.store
from garrison import _core
from garrison.store import Kind, create_container, transaction

SOURCE = os.fspath(Path(garrison.store.__file__).parent)


class Interrupt:
    """Raises KeyboardInterrupt at the nth line of garrison's that runs in the block."""

    def __init__(self, at: int) -> None:
        self.left = at
        self._blocks: set[tuple[int, int]] = set()

    def __enter__(self) -> Interrupt:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(SOURCE) else None

    def _line(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line" and not self._is_exit(frame):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self._line

    def _is_exit(self, frame: FrameType) -> bool:
        """Whether it is the end of a block, at which the interpreter looks for no signal."""
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        place = id(frame), frame.f_lineno
        seen = place in self._blocks
        if line.lstrip().startswith("with "):
            self._blocks ^= {place}
        return seen


def check_is_closed(store: Any) -> None:
    if store.in_transaction and not isinstance(store, _core.Store):
        store.abort()  # an backend in Python cannot do better at the first line of an exit
    assert not store.in_transaction


def in_a_transaction(items: Any) -> None:
    with transaction(items._backend):
        items.append(0)
        with transaction(items._backend):
            items.reverse()


def sort_with_a_key(items: Any) -> None:
    items.sort(key=lambda n: -n)


def cut(items: Any) -> None:
    items[::2] = [7, 7]


STEPS: list[Callable[[Any], None]] = [
    in_a_transaction,
    sort_with_a_key,
    cut,
    lambda items: items.update_with(0, lambda n: n + 1),
    lambda items: items.remove(2),
    lambda items: items.__imul__(2),
]


@pytest.mark.parametrize("step", STEPS)
def test_interrupted_step_is_done_or_not(store: Any, step: Callable[[Any], None]) -> None:
    before, after = [3, 1, 2], create_container(store, Kind.LIST, [3, 1, 2])
    step(after)
    for line in range(1, 1000):
        items = create_container(store, Kind.LIST, before)
        interrupt = Interrupt(line)
        try:
            with interrupt:
                step(items)
        except KeyboardInterrupt:
            pass
        check_is_closed(store)
        assert items in (before, after)
        if interrupt.left > 0:
            break
    assert items == after


@pytest.mark.parametrize("kind", [Kind.QUEUE, Kind.JOINABLE_QUEUE])
def test_a_claimed_item_is_never_lost(store: Any, kind: int) -> None:
    queue = create_container(store, kind)
    for line in range(1, 1000):
        queue.put("item")
        interrupt, began = Interrupt(line), False
        try:
            with interrupt, queue.claim():
                began = True
        except KeyboardInterrupt:
            pass
        check_is_closed(store)
        if interrupt.left > 0:
            break
        if not began:
            assert queue.get(block=False) == "item"
        elif not queue.empty():
            queue.get()
    assert queue.empty()
