"""What engines need of pools: the contract of a backend, a base for it, and how values travel."""

from __future__ import annotations

import pickle
from multiprocessing import get_context

from garrison._core import PickledResult
from garrison._typing import TYPE_CHECKING, Any
from garrison.pool import _worker_namespaces
from garrison.pool._backend import Backend
from garrison.pool._calls import call_policy
from garrison.pool._encoding import (
    ItemError,
    Outcome,
    decode_error,
    decode_failure,
    decode_value,
    encode_error,
    joined_items,
)
from garrison.pool._payload_kinds import PayloadKind
from garrison.pool._pickled_backend import EncodingBackend, PickledBackend
from garrison.pool._pickling_rules import unpicklable
from garrison.pool._safe_repr import describe_call, facts_of_lost
from garrison.pool._seeds import Seeds
from garrison.pool._task_backend import (
    ItemBuffer,
    RunningTasks,
    Task,
    TaskBackend,
    refuse_timeout,
    run_call,
)
from garrison.pool._thread_backend import ThreadBackend
from garrison.pool.call_runner import dumps_result, prepare, run_message

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Backend",
    "EncodingBackend",
    "ItemBuffer",
    "ItemError",
    "Outcome",
    "PayloadKind",
    "PickledBackend",
    "PickledResult",
    "RunningTasks",
    "Seeds",
    "Task",
    "TaskBackend",
    "ThreadBackend",
    "call_policy",
    "decode_error",
    "decode_failure",
    "decode_value",
    "describe_call",
    "dumps_initializer",
    "dumps_result",
    "encode_error",
    "facts_of_lost",
    "forked_backend",
    "function_registry",
    "joined_items",
    "prepare",
    "refuse_timeout",
    "run_call",
    "run_initializer",
    "run_message",
    "unpicklable",
    "worker_slot",
]


def function_registry(store: Any, reducers: Any) -> Any:
    """Return a registry of functions for workers that have nothing of this program.

    Parameters
    ----------
    store : object
        Gets the functions: `add_function(number, pickled)` and `forget_function(number)`.
    reducers : object
        Its `first()` returns reducers that come before all others.
    """
    from garrison.pool._function_registry import FunctionRegistry

    registry: Any = FunctionRegistry(store, fork=False, elsewhere=True)
    registry.imports.descriptors = reducers
    return registry


def dumps_initializer(
    registry: Any, initializer: Callable[..., object], args: tuple[Any, ...]
) -> bytes:
    """Pickle an initializer for `run_initializer`; functions by value share its globals."""
    namespace = registry.imports.namespace_of(initializer, fork=False)
    call = registry.dumps_at_start((initializer, args))
    return pickle.dumps((namespace, call))


def run_initializer(data: bytes) -> Any:
    """Call an initializer, in a worker; return the state."""
    namespace, call = pickle.loads(data)  # noqa: S301 - written by `dumps_initializer`
    if namespace is not None:
        _worker_namespaces.begin(namespace)
    _worker_namespaces.note_user_code()
    initializer, args = pickle.loads(call)  # noqa: S301 - written by `dumps_initializer`
    return initializer(*args)


def forked_backend(
    workers: int,
    start: tuple[Callable[..., object], tuple[Any, ...]],
    maxtasks: int | None,
    seed: int | None,
) -> Any:
    """Return the backend of a pool of forked processes, for a process that is nothing else."""
    from garrison.pool._process_backend import ProcessBackend

    context: Any = get_context("fork")
    seeds = Seeds(seed, inherited=True)
    return ProcessBackend(workers, context, context.Process, start, maxtasks, seeds, plain=True)


def worker_slot() -> int:
    """Return a worker's place among those of its pool, which its successor has after it."""
    from garrison.pool import _worker

    return _worker.current_slot
