"""What engines need of pools: the contract of a backend, and a base for it."""

from garrison.pool._backend import Backend
from garrison.pool._payload_kinds import PayloadKind
from garrison.pool._task_backend import ItemBuffer, RunningTasks, Task, TaskBackend, run_call

__all__ = [
    "Backend",
    "ItemBuffer",
    "PayloadKind",
    "RunningTasks",
    "Task",
    "TaskBackend",
    "run_call",
]
