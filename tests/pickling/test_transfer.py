"""Handles are made by the picklers of transfers alone."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

from garrison._pickling import Transferable, assert_transfer, register


class Handle(Transferable):
    def __init__(self, number: int) -> None:
        self.number = number

    def __getstate__(self) -> dict[str, Any]:
        assert_transfer(self)
        return vars(self).copy()


class Extended(Handle):
    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "more": True}


class Other:
    pass


def rebuilt(text: str) -> str:
    return text


def test_transfer_pickles_subclasses_with_their_state() -> None:
    received = pickle.loads(ForkingPickler.dumps(Extended(5)))
    assert (received.number, received.more) == (5, True)


def test_plain_pickling_and_copies_are_refused_with_the_standard_text() -> None:
    with pytest.raises(RuntimeError) as standard:
        pickle.dumps(multiprocessing.get_context("fork").Semaphore())
    with pytest.raises(RuntimeError) as ours:
        pickle.dumps(Handle(5))
    assert str(ours.value) == str(standard.value).replace("Semaphore", "Handle")
    for refused in (copy.copy, copy.deepcopy):
        with pytest.raises(RuntimeError, match="through inheritance"):
            refused(Handle(5))


def test_a_transfer_is_over_when_the_object_is_reduced() -> None:
    ForkingPickler.dumps([Handle(1), Handle(2)])
    with pytest.raises(RuntimeError):
        pickle.dumps(Handle(1))


def test_a_class_can_be_registered_with_a_function() -> None:
    register(Other, lambda _: (rebuilt, ("by register",)))
    assert pickle.loads(ForkingPickler.dumps(Other())) == "by register"
    assert type(pickle.loads(pickle.dumps(Other()))) is Other
