"""Each kind of event loop in turn: ``run(main)`` runs a coroutine function to its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from garrison.aio._library import current
from optional import import_or_skip

Run = Callable[[Callable[[], Any]], Any]


def run_asyncio(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def run_uvloop(main: Callable[[], Any]) -> Any:
    uvloop: Any = import_or_skip("uvloop")
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def run_trio(main: Callable[[], Any]) -> Any:
    return import_or_skip("trio").run(main)


def run_anyio(main: Callable[[], Any]) -> Any:
    import_or_skip("trio")
    return import_or_skip("anyio").run(main, backend="trio")


with contextlib.suppress(pytest.skip.Exception):
    # It keeps a pipe for signals from its first loop on.
    run_uvloop(lambda: asyncio.sleep(0))


async def until(predicate: Callable[[], Any]) -> None:
    """Wait, in any loop, until something is so: what comes by no event."""
    library = current()
    while not predicate():
        await library.in_thread(time.sleep, 0.002)


@pytest.fixture(params=[run_asyncio, run_uvloop, run_trio, run_anyio])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found
