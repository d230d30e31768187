"""A dict in a server, reached over TCP: garrison's encrypted, the standard library's not."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.managers
from collections.abc import Iterator
from typing import Any

import harness
import managers
from harness import BASELINE, SUBJECT, Goal, Metric, Values

KEY = b"a key for a benchmark, not for you"
NAMES = managers.NAMES


class Standard(multiprocessing.managers.SyncManager):
    """The standard library's, with one dict for all."""


_the_dict: dict[Any, Any] = {}
Standard.register("the_dict", lambda: _the_dict, multiprocessing.managers.DictProxy)


@contextlib.contextmanager
def reached(peer: str) -> Iterator[Any]:
    """A dict of a server that listens on TCP."""
    if peer == SUBJECT:
        import garrison

        with garrison.Manager(address=("127.0.0.1", 0), key=KEY) as served:
            yield garrison.connect(served.address, KEY, direct=False)
    else:
        with Standard(("127.0.0.1", 0), KEY) as standard:
            yield standard


def dict_of(peer: str, manager: Any) -> Any:
    return manager.dict("stock") if peer == SUBJECT else manager.the_dict()


def turn(peer: str, quick: bool) -> Values:
    times = 500 if quick else 5_000
    with reached(peer) as manager:
        shared = dict_of(peer, manager)
        for name in NAMES:
            shared[name] = 0

        def get(count: int) -> None:
            for number in range(count):
                shared[NAMES[number % 1000]]

        def put(count: int) -> None:
            for number in range(count):
                shared[NAMES[number % 1000]] = number

        return {
            "get": managers.microseconds(get, times),
            "set": managers.microseconds(put, times),
            "16 clients": managers.together(16, get, times // 5),
            "pipelined": pipelined(peer, manager, shared, times),
        }


def pipelined(peer: str, manager: Any, shared: Any, times: int) -> float:
    """Sets a second; the standard library sends one at a time."""

    def put(count: int) -> None:
        if peer == BASELINE:
            for number in range(count):
                shared[NAMES[number % 1000]] = number
            return
        for begin in range(0, count, 500):
            with manager.pipeline() as pipeline:
                late = pipeline(shared)
                for number in range(begin, min(begin + 500, count)):
                    late[NAMES[number % 1000]] = number

    return 1e6 / managers.microseconds(put, times)


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="manager_remote",
            claim="a dict in a server over loopback TCP, ours encrypted and the baseline not",
            metrics=(
                Metric("get", "us", "lower", Goal("times", 1)),
                Metric("set", "us", "lower", Goal("times", 1)),
                Metric("16 clients", "1/s", "higher", Goal("times", 2), Goal("times", 4)),
                Metric("pipelined", "1/s", "higher", Goal("times", 12), Goal("times", 25)),
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            rounds=3,
        )
    )
