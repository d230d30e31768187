"""Coroutine functions as tasks: the loop's side of `garrison.pool.coroutine_host`.

Calls wait here, in the order in which they came, until a host has room. Each host has an inbox of
its own, so what it was given is known here; all of them answer into one outbox, whose descriptor
the loop watches. A host that has died costs each of its calls one attempt.
"""

from __future__ import annotations

import itertools
import queue as queues
import time
from collections import deque
from collections.abc import Sized
from functools import partial

from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._coroutine_streams import CoroutineIterator
from garrison.aio._library import Library, fail_with_pool, finish, is_closed, outcome_of_call
from garrison.aio._watcher import Watcher
from garrison.errors import PoolClosed, WorkerDied
from garrison.pool import coroutine_host
from garrison.pool.coroutine_host import CANCEL, END, READY, is_coroutine_function
from garrison.sync import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.pool.coroutine_host import Facts

__all__ = ["CoroutineCalls", "is_coroutine_function"]


class _Job:
    """A call of a coroutine function, until it has a result."""

    __slots__ = (
        "begun",
        "call",
        "data",
        "deaths",
        "function",
        "host",
        "item",
        "number",
        "options",
        "retries",
        "returns",
    )

    def __init__(self, number: int, call: Any, function: Any, options: Any, item: Any) -> None:
        self.number, self.call, self.function, self.item = number, call, function, item
        self.data = b""
        self.retries, self.deaths = options.retries, 0
        retries = options.retries if options.retry_on else 0
        self.options = options.timeout, retries, options.retry_on, options.pass_state
        self.returns = options.on_error == "return"
        self.host: _Host | None = None
        self.begun = 0.0

    def finish(self, success: bool, value: Any, facts: Facts | None = None) -> None:
        """Set the result of the call; with ``on_error="return"`` a failure is one."""
        if not success:
            index, star = (None, False) if self.item is None else self.item
            if facts is not None:
                facts.attempt += self.deaths
                facts.item = coroutine_host.describe_encoded_item(
                    self.data, single=index is None, star=star
                )
                facts.add_note(value, index)
            if self.returns:
                success, value = True, coroutine_host.failure_of(value, facts, index)
        finish(self.call, success, value)


class _Host:
    """A task of the pool that runs coroutines."""

    def __init__(self, number: int, outbox: Queue[Any]) -> None:
        self.number, self.outbox = number, outbox
        self.inbox: Queue[Any] = Queue()
        self.jobs: dict[int, _Job] = {}
        self.ready = False
        self.result: Any = None

    def end(self) -> None:
        self.ready = False
        self.inbox.put((END,))


class _Hosts:
    """The hosts of a pool that work for one loop."""

    def __init__(self, pool: Any, watcher: Watcher, concurrency: int) -> None:
        self._pool, self._watcher, self._concurrency = pool, watcher, concurrency
        self._library = watcher.library
        self._numbers = itertools.count()
        self._waiting: deque[_Job] = deque()
        self._hosts: dict[int, _Host] = {}
        self._outbox: Queue[Any] | None = None
        self._closing = False
        self.all_done: list[Any] = []
        """Calls that wait until there is nothing to do any more."""

    # --- Calls ----------------------------------------------------------------------------------

    def call(self, function: Any, args: Any, kwds: Any, options: Any, item: Any) -> Any:
        """Return a call that gets the result of a coroutine."""
        call = self._library.call()
        job = _Job(next(self._numbers), call, function, options, item)
        try:
            job.data = coroutine_host.encode_call(self._pool._backend, function, args, kwds)
        except Exception as error:
            job.finish(False, error)
            return call
        call.on_cancel = partial(self._cancel, job)
        self._waiting.append(job)
        self._start_hosts()
        self._assign()
        return call

    def _cancel(self, job: _Job) -> None:
        if job.host is not None:
            job.host.inbox.put((CANCEL, job.number))

    def _assign(self) -> None:
        """Give what waits to the hosts with the fewest calls."""
        ready = [host for host in self._hosts.values() if host.ready]
        while self._waiting and ready:
            host = min(ready, key=_load)
            if len(host.jobs) >= self._concurrency:
                return
            job = self._waiting.popleft()
            if not job.call.done():
                job.host, job.begun = host, time.monotonic()
                host.jobs[job.number] = job
                host.inbox.put((job.number, job.data, *job.options))

    # --- Hosts ----------------------------------------------------------------------------------

    def _start_hosts(self) -> None:
        """Start as many hosts as there are calls, up to one for each worker."""
        wanted = sum(len(host.jobs) for host in self._hosts.values()) + len(self._waiting)
        try:
            while len(self._hosts) < min(wanted, self._pool._backend.parallelism):
                self._start_host()
        except PoolClosed as error:  # meanwhile
            if not self._hosts:
                self._fail_waiting(error)

    def _start_host(self) -> None:
        if self._outbox is None:
            self._outbox = Queue()
            self._library.add_reader(self._outbox._reader.fileno(), self._read)
        host = _Host(next(self._numbers), self._outbox)
        has_state = self._pool._initializer is not None
        pool = self._pool.options(
            timeout=None, retries=0, retry_on=(), on_error="raise", pass_state=has_state
        )
        run: Any = coroutine_host.run_host_with_state if has_state else coroutine_host.run_host
        host.result = self._watcher.result(
            pool.apply_async(run, (host.number, host.inbox, host.outbox))
        )
        self._hosts[host.number] = host
        host.result.add_done_callback(partial(self._host_ended, host))

    def _host_ended(self, host: _Host, result: Any) -> None:
        """Read what it had to tell, and begin again what it has left."""
        success, error = outcome_of_call(result)
        self._read()
        self._hosts.pop(host.number, None)
        left = [job for job in host.jobs.values() if not job.call.done()]
        host.jobs.clear()
        for job in reversed(left):
            job.host = None
            if isinstance(error, WorkerDied) and job.retries > 0:
                job.retries -= 1
                job.deaths += 1
                self._waiting.appendleft(job)
            elif success:
                self._waiting.appendleft(job)  # it lies unread in the inbox
            else:
                _fail(job, error)
        if not (success or isinstance(error, WorkerDied) or (host.ready and self._hosts)):
            self._fail_waiting(error)  # it could not begin, or no other will: the pool has ended
        # It may have ended without taking them: its pool was terminated, say.
        host.inbox._spot.forget_exports()
        if not self._hosts:
            host.outbox._spot.forget_exports()
        host.inbox.close()
        self._go_on()

    def _fail_waiting(self, error: BaseException) -> None:
        """Fail what no host has: none will take it."""
        while self._waiting:
            job = self._waiting.popleft()
            if not job.call.done():
                _fail(job, error)

    def _read(self) -> None:
        """Take what the hosts have answered."""
        while self._outbox is not None:
            try:
                number, *reply = self._outbox.get_nowait()
            except queues.Empty:
                break
            host = self._hosts.get(number)
            if host is not None:
                self._take(host, *reply)
        self._assign()

    def _take(self, host: _Host, call: int, succeeded: bool, data: bytes) -> None:
        if call == READY:
            host.ready = True
        else:
            job = host.jobs.pop(call)
            if not job.call.done():
                job.finish(*coroutine_host.decode_reply(succeeded, data))
        self._go_on()

    # --- The end --------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether there is a call without a result, or a host."""
        return bool(self._waiting or self._hosts)

    def _go_on(self) -> None:
        if self._waiting:
            self._start_hosts()
        elif self._closing:
            for host in self._hosts.values():
                if host.ready and not host.jobs:
                    host.end()
        if not self.busy:
            self.stop()

    def close(self) -> None:
        """End the hosts once they have nothing to do."""
        self._closing = True
        self._go_on()

    def end_all(self) -> None:
        """End the hosts, and what runs in them."""
        for host in self._hosts.values():
            host.end()

    def stop(self) -> None:
        """Let the descriptor go: there are no hosts, or their pool has ended."""
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            self._library.remove_reader(outbox._reader.fileno())
            outbox.close()
        waiting, self.all_done = self.all_done, []
        for call in waiting:
            if not call.done():
                call.set_result(None)


def _load(host: _Host) -> int:
    return len(host.jobs)


def _fail(job: _Job, error: Any) -> None:
    """Fail a call because its host, or the pool, has ended."""
    if isinstance(error, WorkerDied):
        text = coroutine_host.describe(job.function, job.data)
        seconds = time.monotonic() - job.begun
        facts = coroutine_host.Facts(None, "", 1, "a worker", error.pid, seconds)
        job.finish(False, WorkerDied(text, error.args[1]), facts)
    else:
        fail_with_pool(job.call, error)


class CoroutineCalls:
    """Runs coroutine functions in the workers of a pool."""

    def __init__(self, pool: Any, concurrency: int) -> None:
        self._pool, self._concurrency = pool, concurrency
        self.most: int = concurrency * pool._backend.parallelism
        """Coroutines at a time, in all workers."""
        self._has_hosts = hasattr(pool._backend, "registry") and pool._backend.batches_items
        self._hosts: dict[Any, _Hosts] = {}

    def call(
        self,
        watcher: Watcher,
        tasks: Any,
        function: Any,
        args: Any,
        kwds: Any,
        item: tuple[int, bool] | None = None,
    ) -> Any:
        """Return a call that gets the result of a coroutine; to cancel it cancels the coroutine.

        `item` is its place in the input, and whether that has tuples of arguments.
        """
        self._pool._check_running()
        self._pool._check_process()
        if not self._has_hosts:
            return watcher.result(tasks.apply_async(coroutine_host.RunAlone(function), args, kwds))
        hosts = self._hosts.get(watcher.library.loop)
        if hosts is None:
            hosts = _Hosts(self._pool, watcher, self._concurrency)
            self._hosts[watcher.library.loop] = hosts
        return hosts.call(function, args, kwds, tasks._options, item)

    def iterate(
        self,
        watcher: Watcher,
        tasks: Any,
        function: Callable[..., Any],
        iterable: Any,
        ahead: int,
        *,
        ordered: bool,
        star: bool = False,
    ) -> Any:
        """Return an async iterator of the results for each item."""
        indices = itertools.count()

        def begin(item: Any) -> Any:
            place = next(indices), star
            return self.call(watcher, tasks, function, tuple(item) if star else (item,), {}, place)

        results = CoroutineIterator(watcher.library, begin, iterable, ahead, ordered=ordered)
        options = tasks._options
        results.skips = options.on_error == "skip"
        if options.progress is not False:
            total = len(iterable) if isinstance(iterable, Sized) else None
            results.bar = self._pool._new_bar(options.progress, function, total)
        return results

    async def map(
        self, watcher: Watcher, tasks: Any, function: Any, iterable: Any, *, star: bool
    ) -> list[Any]:
        """Return the results for all items; the first failure cancels what is left."""
        results = self.iterate(
            watcher, tasks, function, iterable, self.most, ordered=True, star=star
        )
        try:
            return [each async for each in results]
        finally:
            await results.aclose()

    def close(self) -> None:
        """Let the hosts end once they have nothing to do."""
        for hosts in self._hosts.values():
            hosts.close()

    def forget_closed_loops(self) -> None:
        """End the hosts whose loop was closed: what they have left has no reader."""
        for loop in [each for each in self._hosts if is_closed(each)]:
            hosts = self._hosts.pop(loop)
            hosts.end_all()
            hosts.stop()

    async def join(self, library: Library) -> None:
        """Wait until no coroutine is left, after `close`."""
        hosts = self._hosts.get(library.loop)
        if hosts is not None and hosts.busy:
            call = library.call()
            hosts.all_done.append(call)
            await call

    def stop(self, library: Library) -> None:
        """Let all descriptors of this loop go: the pool has ended."""
        self.forget_closed_loops()
        hosts = self._hosts.pop(library.loop, None)
        if hosts is not None:
            hosts.stop()
