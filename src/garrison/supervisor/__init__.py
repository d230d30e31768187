"""The supervisor that keeps a pool's workers alive, and how processes are started.

Each name is loaded at its first use: a worker needs few.
"""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from garrison.supervisor._crash_stack import STACK_SIGNAL, record_crashes
    from garrison.supervisor._decisions import PoolPhase
    from garrison.supervisor._fork_server import Preload
    from garrison.supervisor._fresh_start import FreshPopen, pickle_for
    from garrison.supervisor._fresh_worker import WorkerTemplate
    from garrison.supervisor._handle import SupervisorHandle
    from garrison.supervisor._identity import allow_children, shared_counter, uncounted
    from garrison.supervisor._liveness import LIVENESS_CHECK_INTERVAL_S
    from garrison.supervisor._main_module import (
        imported_main,
        is_importable,
        main_path,
        preparation_data,
    )
    from garrison.supervisor._start import is_launched
    from garrison.supervisor._syscalls import handle_cancels
    from garrison.supervisor._worker_entry import work_in_slot
    from garrison.supervisor._worker_processes import WorkerProcesses, list_among_children
    from garrison.supervisor._worker_slots import WorkerSpec
    from garrison.supervisor.import_guard import check_not_importing

__all__ = [
    "LIVENESS_CHECK_INTERVAL_S",
    "STACK_SIGNAL",
    "FreshPopen",
    "PoolPhase",
    "Preload",
    "SupervisorHandle",
    "WorkerProcesses",
    "WorkerSpec",
    "WorkerTemplate",
    "allow_children",
    "check_not_importing",
    "handle_cancels",
    "imported_main",
    "is_importable",
    "is_launched",
    "list_among_children",
    "main_path",
    "pickle_for",
    "preparation_data",
    "record_crashes",
    "shared_counter",
    "uncounted",
    "work_in_slot",
]

_HOMES = {
    "_crash_stack": ("STACK_SIGNAL", "record_crashes"),
    "_decisions": ("PoolPhase",),
    "_fork_server": ("Preload",),
    "_fresh_start": ("FreshPopen", "pickle_for"),
    "_fresh_worker": ("WorkerTemplate",),
    "_handle": ("SupervisorHandle",),
    "_identity": ("allow_children", "shared_counter", "uncounted"),
    "import_guard": ("check_not_importing",),
    "_liveness": ("LIVENESS_CHECK_INTERVAL_S",),
    "_main_module": ("imported_main", "is_importable", "main_path", "preparation_data"),
    "_start": ("is_launched",),
    "_syscalls": ("handle_cancels",),
    "_worker_entry": ("work_in_slot",),
    "_worker_processes": ("WorkerProcesses", "list_among_children"),
    "_worker_slots": ("WorkerSpec",),
}
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, globals(), _HOMES)
