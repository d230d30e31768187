"""Coroutines in a worker: many at a time, in one event loop.

::

    parent ──▶ inbox (calls, cancels) ──▶ host, a task of the pool ──▶ outbox (replies) ──▶ parent

A host is an ordinary task of a pool, which lasts as long as its program has coroutines for it; so
the supervisor watches it as any other, and what dies with its worker is told with its result. It
ends when it has had nothing to do for a while. The parent knows what each host was given: what a
host has left in its inbox is given to another.

A host and its parent have a pair of `garrison.Queue`: what was put is there, whoever dies then.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import pickle
import queue as queues
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import current_process

from garrison._typing import Any
from garrison.errors import TaskInterrupt, TaskTimeout
from garrison.pool._encoding import (
    Outcome,
    decode_failure,
    decode_value,
    encode_error,
    encode_result,
)
from garrison.pool._facts import Facts
from garrison.pool._failure import failure_of
from garrison.pool._pickling_rules import dumps_to_workers
from garrison.pool._safe_repr import describe_encoded, describe_encoded_item

__all__ = [
    "CANCEL",
    "END",
    "READY",
    "Facts",
    "RunAlone",
    "decode_reply",
    "describe",
    "describe_encoded_item",
    "encode_call",
    "failure_of",
    "is_coroutine_function",
    "run_host",
    "run_host_with_state",
]

END, CANCEL, READY = range(-3, 0)
"""In place of a call's number: the host is to end, a call is to be cancelled, a host has begun."""
IDLE_S = 0.05
"""Seconds without a call after which a host ends."""


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it gives a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    call = getattr(type(function), "__call__", None)  # noqa: B004 - what it is
    return inspect.iscoroutinefunction(call)


class RunAlone:
    """A coroutine function as a function, where there are no hosts: each call is a task."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, /, *args: Any, **kwds: Any) -> Any:
        """Run the coroutine."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(_awaited(self._function, args, kwds))
        # A task that runs in its caller, in whose loop no other may run.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self, *args, **kwds).result()


async def _awaited(function: Callable[..., Any], args: Any, kwds: Any) -> Any:
    return await function(*args, **kwds)


# --- In the parent --------------------------------------------------------------------------------


def encode_call(backend: Any, function: Callable[..., Any], args: Any, kwds: Any) -> bytes:
    """Pickle a call for a host of this backend.

    Raises
    ------
    ArgumentUnpicklable
        If it cannot be sent; the message names the path to the part.
    """
    registry = backend.registry
    first = registry.imports.descriptors.first()
    return dumps_to_workers((function, args, kwds), registry._rules, "the call", first)


def decode_reply(succeeded: bool, data: bytes) -> tuple[bool, Any, Facts | None]:
    """Decode what came of a call: success, the result or exception, and facts of a failure."""
    if not succeeded:
        return False, *decode_failure(data)
    try:
        return True, decode_value(data, None), None
    except Exception as error:
        return False, error, None


def describe(function: Callable[..., Any], data: bytes) -> str:
    """Return an encoded call as a short text, for messages."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return describe_encoded(name, data)


# --- In the worker --------------------------------------------------------------------------------


def run_host(number: int, inbox: Any, outbox: Any) -> None:
    """Run coroutines until the parent has no more."""
    asyncio.run(_Host(None, number, inbox, outbox).serve())


def run_host_with_state(state: Any, number: int, inbox: Any, outbox: Any) -> None:
    """As `run_host`, in a worker with a state that coroutines may want."""
    asyncio.run(_Host(state, number, inbox, outbox).serve())


class _Host:
    def __init__(self, state: Any, number: int, inbox: Any, outbox: Any) -> None:
        self._state = state
        self._number, self._inbox, self._outbox = number, inbox, outbox
        self._tasks: dict[int, asyncio.Task[tuple[bool, bytes]]] = {}
        self._over = False
        self._changed = asyncio.Event()
        """Something has come, or the last coroutine is over."""

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        descriptor = self._inbox._reader.fileno()
        loop.add_reader(descriptor, self._changed.set)
        self._tell(READY)
        try:
            while not self._over and await self._has_more():
                self._changed.clear()
                self._read()
        finally:
            loop.remove_reader(descriptor)

    async def _has_more(self) -> bool:
        """Wait for something to do; False after a while without any."""
        try:
            await asyncio.wait_for(self._changed.wait(), None if self._tasks else IDLE_S)
        except asyncio.TimeoutError:
            return False
        return True

    def _tell(self, call: int, succeeded: bool = True, data: bytes = b"") -> None:
        self._outbox.put((self._number, call, succeeded, data))

    def _read(self) -> None:
        """Begin what has come."""
        while True:
            try:
                call, *what = self._inbox.get_nowait()
            except queues.Empty:
                return
            if call == END:
                self._over = True
            elif call == CANCEL:
                task = self._tasks.get(what[0])
                if task is not None:
                    task.cancel()
            else:
                task = asyncio.ensure_future(_outcome(self._state, *what))
                self._tasks[call] = task
                task.add_done_callback(functools.partial(self._ended, call))

    def _ended(self, call: int, task: asyncio.Task[tuple[bool, bytes]]) -> None:
        del self._tasks[call]
        if not self._tasks:
            self._changed.set()
        if task.cancelled():  # before its first step
            self._tell(call, False, encode_error(asyncio.CancelledError()))
            return
        try:
            self._tell(call, *task.result())
        except Exception as error:
            self._tell(call, False, encode_error(error))


async def _outcome(
    state: Any,
    data: bytes,
    timeout: float | None,
    retries: int,
    retry_on: tuple[type[BaseException], ...],
    pass_state: bool,
) -> tuple[bool, bytes]:
    """Run a call; return success, and its encoded result or exception."""
    for attempt in range(retries + 1):
        begun = time.monotonic()
        try:
            # Fresh arguments for each attempt.
            function, args, kwds = pickle.loads(data)  # noqa: S301 - written by the parent
            _label_output(function, args, kwds)
            first = (state,) if pass_state else ()
            value = await _within(function(*first, *args, **kwds), timeout, function)
            outcome, reply, _ = encode_result(value, large=1 << 62)
        except TaskInterrupt:  # of the host
            raise
        except BaseException as error:  # `sys.exit()` too: the coroutines beside this one go on
            if isinstance(error, retry_on) and attempt < retries:
                continue
            where = current_process().name, os.getpid()
            seconds = time.monotonic() - begun
            # The parent knows what it was called with.
            return False, encode_error(error, (None, "", attempt + 1, *where, seconds))
        return outcome == Outcome.OK, reply
    raise AssertionError("there is a last attempt")


def _label_output(function: Any, args: Any, kwds: Any) -> None:
    """With ``logs=True``, have lines bear the name of this coroutine."""
    logs = sys.modules.get("garrison.pool._worker_logs")
    if logs is not None:
        logs.coroutine_at_work.set((function, args, kwds))


async def _within(coroutine: Any, timeout: float | None, function: Any) -> Any:
    if timeout is None:
        return await coroutine
    task = asyncio.ensure_future(_outcome_of(coroutine))
    try:
        done, _ = await asyncio.wait([task], timeout=timeout)
    except asyncio.CancelledError:
        await _cancelled(task)
        raise
    if done:
        success, value = task.result()
        if success:
            return value
        raise value
    await _cancelled(task)
    facts = {"pid": os.getpid(), "timeout": timeout, "late": True}
    raise TaskTimeout(f"{getattr(function, '__qualname__', function)}(...)", facts)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a coroutine, and wait until it has cleaned up."""
    task.cancel()
    await asyncio.wait([task])


async def _outcome_of(coroutine: Any) -> tuple[bool, Any]:
    """Return success, and the result or exception: a task that raises `SystemExit` ends a loop."""
    try:
        return True, await coroutine
    except (TaskInterrupt, asyncio.CancelledError):
        raise
    except BaseException as error:
        return False, error
