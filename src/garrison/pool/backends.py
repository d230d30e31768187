"""What engines need of pools: the contract of a backend, and a base for it."""

from garrison.pool._backend import Backend
from garrison.pool._payload_kinds import PayloadKind
from garrison.pool._task_backend import (
    ItemBuffer,
    RunningTasks,
    Task,
    TaskBackend,
    refuse_timeout,
    run_call,
)
from garrison.pool._thread_backend import ThreadBackend

__all__ = [
    "Backend",
    "ItemBuffer",
    "PayloadKind",
    "RunningTasks",
    "Task",
    "TaskBackend",
    "ThreadBackend",
    "refuse_timeout",
    "run_call",
]
