"""What the workers run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any


def same(x: Any) -> Any:
    return x


def fail(x: Any) -> None:
    try:
        {}[x]
    except KeyError as error:
        failure = ValueError(f"no {x}")
        if hasattr(failure, "add_note"):
            failure.add_note("a note")
        raise failure from error


def fail_at_three(x: int) -> int:
    if x == 3:
        raise ValueError(x)
    return x


def stop_iteration() -> None:
    raise StopIteration(1)


def wait_for_file(path: str) -> str:
    """Wait until there is a file: the test says when."""
    while not Path(path).exists():
        time.sleep(0.005)
    return path


def touch(path: str) -> bool:
    """Make a file; return whether there was none."""
    there = Path(path).exists()
    Path(path).touch()
    return not there


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nested_list(count: int) -> list[list[str]]:
    return [[str(n)] for n in range(count)]


def fail_at_host(*_: Any) -> None:
    raise ValueError("no host")


async def co_same(x: Any) -> Any:
    await asyncio.sleep(0)
    return x


async def co_pid(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()


async def co_fail(x: Any) -> None:
    await asyncio.sleep(0)
    fail(x)


def ratio(x: int, y: int = 6) -> float:
    return y / x


async def co_ratio(x: int, y: int = 6) -> float:
    await asyncio.sleep(0)
    return ratio(x, y)


def with_state(state: str, x: int) -> tuple[str, int]:
    return state, x


async def co_with_state(state: str, x: int) -> tuple[str, int]:
    return state, x


async def co_print(text: str) -> None:
    print("begun", text)  # noqa: T201
    await asyncio.sleep(0.01)
    print("over", text)  # noqa: T201


async def co_forever(path: str) -> None:
    """Note its beginning, and its end if it is cancelled."""
    touch(path)
    try:
        await asyncio.Event().wait()
    finally:
        touch(path + ".over")


async def co_die_once(path: str) -> int:
    """Kill the worker, unless that was done."""
    if touch(path):
        die()
    return os.getpid()


async def numbers(count: int) -> AsyncIterator[int]:
    for n in range(count):
        yield n


async def numbers_that_fail(count: int) -> AsyncIterator[int]:
    async for n in numbers(count):
        yield n
    raise LookupError(count)


async def co_raise(error: type[BaseException]) -> None:
    await asyncio.sleep(0)
    raise error(7)


async def co_catch(error: type[BaseException]) -> str:
    try:
        await co_raise(error)
    except BaseException as caught:
        return repr(caught)
    return ""


async def co_die_when(begun: str, go: str) -> None:
    touch(begun)
    await asyncio.to_thread(wait_for_file, go)
    die()
