"""Conformance of the backends: what a pool may expect of whatever runs its tasks."""

from __future__ import annotations

import inspect
import time
from types import SimpleNamespace
from typing import Any

import pytest

import garrison
from garrison.engines.cluster._backend import ClusterBackend
from garrison.engines.executor import ExecutorBackend
from garrison.engines.interpreters import InterpreterBackend
from garrison.engines.serial import PicklingBackend, SerialBackend
from garrison.errors import PoolTerminated
from garrison.options import Options
from garrison.pool import Pool, ThreadPool
from garrison.pool._backend import Backend
from garrison.pool._encoding import ItemError
from garrison.pool._payload_kinds import PayloadKind
from garrison.pool._process_backend import ProcessBackend
from garrison.pool._thread_backend import ThreadBackend

from . import tasks

OPTIONS = Options()
METHODS = [
    name
    for name, value in vars(Backend).items()
    if not name.startswith("_") and inspect.isfunction(value)
]
BACKENDS = [
    ProcessBackend,
    ThreadBackend,
    ClusterBackend,
    ExecutorBackend,
    InterpreterBackend,
    PicklingBackend,
    SerialBackend,
]
CALLS = [
    (PayloadKind.CALL, pow, ((2,), {"exp": 3}), 8),
    (PayloadKind.ARGS, pow, (2, 3), 8),
    (PayloadKind.ITEMS, abs, [-1, 2], [1, 2]),
    (PayloadKind.STAR_ITEMS, pow, [(2, 3), (3, 2)], [8, 9]),
]


def backend_of(pool: Pool | ThreadPool) -> Backend:
    """Return its backend; a type checker sees here that each implements the contract."""
    return pool._backend


@pytest.fixture(params=["processes", "threads"])
def pools(request: pytest.FixtureRequest) -> Any:
    return Pool if request.param == "processes" else ThreadPool


def submit(backend: Backend, function: Any, *args: Any) -> Any:
    registered = backend.register(function, OPTIONS)
    return backend.submit(registered, PayloadKind.ARGS, args, OPTIONS)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", BACKENDS)
def test_methods_have_the_signature_of_the_contract(kind: type, name: str) -> None:
    def parameters(function: Any) -> list[Any]:
        found = inspect.signature(function).parameters.values()
        return [(each.name, each.kind, each.default) for each in found if each.name != "self"]

    assert parameters(getattr(kind, name)) == parameters(getattr(Backend, name))


@pytest.mark.parametrize(("kind", "function", "value", "expected"), CALLS)
def test_task_of_each_kind_returns(
    pools: Any, kind: PayloadKind, function: Any, value: Any, expected: Any
) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        registered = backend.register(function, OPTIONS)
        task = backend.submit(registered, kind, value, OPTIONS, items=2)
        assert backend.wait(task, None)
        assert task.ended()
        assert not task.lost()
        success, result, nanoseconds = backend.result(task)
        assert success
        assert result == expected
        assert nanoseconds >= 0


def test_an_exception_is_a_result(pools: Any) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        task = submit(backend, tasks.fail, LookupError("here"))
        assert backend.wait(task, None)
        success, error, *_ = backend.result(task)
        assert not success
        assert isinstance(error, LookupError)
        assert error.args == ("here",)


def test_a_result_is_taken_once(pools: Any) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        task = submit(backend, abs, -1)
        assert backend.wait(task, None)
        assert backend.result(task)[:2] == (True, 1)
        for take in (backend.result, take_items_into, take_into):
            with pytest.raises(RuntimeError):
                take(task)


def take_into(task: Any) -> Any:
    result = SimpleNamespace(_outcome=None, _raw=None)
    task.take_into(result)
    return result


def take_items_into(task: Any) -> Any:
    batch = SimpleNamespace(brought=None)
    task.take_items_into(batch)
    return batch.brought


def test_a_result_is_taken_in_one_step(pools: Any) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        task = submit(backend, abs, -1)
        assert backend.wait(task, None)
        assert take_into(task)._outcome == (True, 1)
        task = submit(backend, tasks.fail, LookupError("here"))
        assert backend.wait(task, None)
        result = take_into(task)
        success, error = result._outcome or backend.decode(result._raw)[:2]
        assert not success
        assert isinstance(error, LookupError)


def test_a_wait_ends_at_its_deadline(pools: Any) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        event = garrison.Event()
        task = submit(backend, event.wait)
        assert not backend.wait(task, time.monotonic())
        assert not backend.wait_any(
            backend.running_tasks([task]), time.monotonic(), backend.interrupts
        )
        event.set()
        assert backend.wait(task, None)
        assert backend.wait_any(backend.running_tasks([task]), None, backend.interrupts)


def test_an_interrupt_ends_a_wait_that_had_not_seen_it(pools: Any) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        event = garrison.Event()
        task = submit(backend, event.wait)
        seen = backend.interrupts
        backend.interrupt_waits()
        assert backend.interrupts != seen
        assert backend.wait_any(backend.running_tasks([task]), None, seen)
        assert not task.ended()
        event.set()
        assert backend.wait(task, None)


def test_only_a_task_that_has_not_begun_is_withdrawn(pools: Any) -> None:
    event, begun = garrison.Event(), garrison.Event()
    with pools(1) as pool:
        backend = backend_of(pool)
        running = submit(backend, wait_for, event, begun)
        assert begun.wait()
        waiting = submit(backend, abs, -1)
        assert (backend.waiting, backend.busy) == (1, 1)
        assert waiting.withdraw()
        assert not running.withdraw()
        event.set()
        assert backend.wait(running, None)


def wait_for(event: Any, begun: Any) -> bool:
    begun.set()
    return bool(event.wait())


def reciprocal(number: float) -> float:
    return 1 / number


def test_items_have_results_of_their_own(pools: Any) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        registered = backend.register(reciprocal, OPTIONS)
        buffer = backend.item_buffer(3)
        assert buffer.read(iter((2, 0, 4)), 10, 1000, 10**9)[0]
        assert len(buffer) == 3
        pieces: list[Any] = []
        buffer.move_to(pieces)
        (items,) = pieces
        assert len(items) == 3
        assert not len(buffer)
        task = backend.submit_items(registered, items, OPTIONS)
        assert backend.wait(task, None)
        encoded, raw, size, duration = take_items_into(task)
        assert raw is None
        assert encoded is not None
        half, failure, quarter = backend.decode_items(encoded)
        assert (half, quarter) == (0.5, 0.25)
        assert isinstance(failure, ItemError)
        assert isinstance(failure.error, ZeroDivisionError)
        assert min(size, duration) >= 0


def test_a_task_as_a_whole_has_no_results_of_items(pools: Any) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        task = submit(backend, tasks.fail, LookupError())
        assert backend.wait(task, None)
        results, raw, *_ = take_items_into(task)
        assert results is None
        assert isinstance(backend.decode(raw)[1], LookupError)


def test_ends_of_tasks_are_reported_in_order(pools: Any) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        ends = []
        for _ in range(3):
            task = submit(backend, abs, -1)
            assert backend.wait(task, None)
            ends.append(task.ended_at)
        assert ends == sorted(ends)


def test_what_was_submitted_before_close_is_done(pools: Any) -> None:
    with pools(2) as pool:
        backend = backend_of(pool)
        submitted = [submit(backend, abs, -n) for n in range(10)]
        backend.close()
        while not backend.join(1.0):
            pass
        assert [backend.result(task)[1] for task in submitted] == list(range(10))


def test_stop_ends_all_waits(pools: Any) -> None:
    event = garrison.Event()
    with pools(1) as pool:
        backend = backend_of(pool)
        running = [submit(backend, event.wait) for _ in range(2)]
        backend.stop()
        with pytest.raises(PoolTerminated):
            backend.check()
        with pytest.raises(PoolTerminated):
            backend.wait(running[1], None)
        event.set()
