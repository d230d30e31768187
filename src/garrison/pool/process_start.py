"""Starting a `Process` that does not import the main module: its definitions go by value.

Where the main module can be imported, and has a guard, a process is entirely the standard
library's.
"""

from __future__ import annotations

from multiprocessing import forkserver, popen_forkserver, popen_spawn_posix, util

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool import _function_registry
from garrison.supervisor import (
    FreshPopen,
    check_not_importing,
    imported_main,
    pickle_for,
    preparation_data,
)

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["fork_from_server", "spawn"]


def spawn(process_obj: BaseProcess) -> Any:
    """Start a process in a new interpreter."""
    check_not_importing()
    if imported_main() is not None:
        return popen_spawn_posix.Popen(process_obj)
    return _SpawnPopen(process_obj)


def fork_from_server(process_obj: BaseProcess) -> Any:
    """Start a process from the fork server."""
    check_not_importing()
    if imported_main() is not None:
        return popen_forkserver.Popen(process_obj)
    return _ForkServerPopen(process_obj)


class _SpawnPopen(FreshPopen):
    def _prepare(self, name: str) -> dict[str, Any]:
        return preparation_data(name)

    def _dumps(self, value: object) -> bytes:
        return _function_registry.dumps_at_start(
            value, _function_registry.WorkerImports(fork=False), "the process"
        )


class _ForkServerPopen(popen_forkserver.Popen):
    def _launch(self, process_obj: BaseProcess) -> None:
        own: Any = self
        server: Any = forkserver
        imports = _function_registry.WorkerImports(fork=False)
        message = pickle_for(
            self,
            preparation_data(process_obj.name),
            process_obj,
            lambda value: _function_registry.dumps_at_start(value, imports, "the process"),
        )
        _start_server(server)
        self.sentinel, write = server.connect_to_new_process(own._fds)
        with open(write, "wb", closefd=False) as file:
            file.write(message)
        # The end that stays open tells the child that its parent lives.
        self.finalizer = util.Finalize(self, _close, (write, self.sentinel))
        self.pid = server.read_signed(self.sentinel)


def _close(*fds: int) -> None:
    util.close_fds(*fds)  # type: ignore[attr-defined]


def _start_server(server: Any) -> None:
    """Start the fork server, if none runs, without a main module that would run again there."""
    state = server._forkserver
    wanted = state._preload_modules
    state._preload_modules = [name for name in wanted if name != "__main__"]
    try:
        server.ensure_running()
    finally:
        state._preload_modules = wanted
