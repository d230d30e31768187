"""Looking at processes, and waiting for them, without sleeping where an event can be had."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

TOKEN = "GARRISON_SCENARIO"


def gone(pid: int, seconds: float) -> bool:
    """Wait until a process, not necessarily our child, has ended (it may still be a zombie)."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], max(seconds, 0.0))[0])
    finally:
        os.close(descriptor)


def all_gone(pids: list[int], seconds: float) -> list[int]:
    """Wait until all these processes have ended; return those which have not."""
    end = time.monotonic() + seconds
    return [pid for pid in pids if not gone(pid, end - time.monotonic())]


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal; False if there is no such process any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def marked(token: str) -> list[int]:
    """The living processes, other than this one, whose environment carries `token`."""
    wanted = f"{TOKEN}={token}".encode()
    return [pid for pid in _pids() if pid != os.getpid() and wanted in _environment(pid)]


def show_stacks(token: str, stderr: int) -> None:
    """Have every marked process write its Python stack to its stderr, and end, youngest first."""
    for pid in sorted(marked(token), reverse=True):
        os.write(stderr, f"\n{describe(pid)}, waiting in {_wait_channel(pid)}\n".encode())
        if kill(pid, signal.SIGABRT):
            kill(pid, signal.SIGCONT)
            gone(pid, 0.2)


def _wait_channel(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return "nothing"


def parent_of(pid: int) -> int:
    """The parent of a process, 0 if it is gone."""
    return int((_stat(pid) or ["", "0"])[1])


def state_of(pid: int) -> str:
    """The state letter of a process (R, S, T, Z ...), empty if it is gone."""
    return (_stat(pid) or [""])[0]


def children_of(parent: int) -> list[int]:
    """The direct children of a process, zombies included."""
    return [pid for pid in _pids() if parent_of(pid) == parent]


def descendants_of(parent: int) -> list[int]:
    """All processes below a process, zombies included."""
    found = children_of(parent)
    for pid in found:
        found.extend(children_of(pid))
    return found


def helpers(pid: int | None = None) -> list[int]:
    """Children that serve all pools of a program until its end: fork servers, a tracker."""
    names = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
    children = children_of(os.getpid() if pid is None else pid)
    own = _own_fork_server() if pid is None else None
    return [
        child
        for child in children
        if child == own or any(name in describe(child) for name in names)
    ]


def _own_fork_server() -> int | None:
    """Garrison's fork server for this program."""
    server = getattr(sys.modules.get("garrison.supervisor._fork_server"), "_server", None)
    return None if server is None else int(server._watch.pid)


def describe(pid: int) -> str:
    """A process in a few words."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        words = ""
    return f"{pid} ({state_of(pid)}) {words[:160]}"


def descriptors(pid: int | str = "self") -> int:
    """How many descriptors a process has open, the one that counts them not included."""
    return len(os.listdir(f"/proc/{pid}/fd")) - (pid == "self")


def mappings(pid: int | str = "self") -> int:
    """How many mappings of anonymous files a process has."""
    return Path(f"/proc/{pid}/maps").read_text().count("/memfd:")


def status_kib(field: str, pid: int | str = "self") -> int:
    """A line of /proc/PID/status in KiB."""
    return _field(Path(f"/proc/{pid}/status"), field)


def meminfo_kib(field: str) -> int:
    """A line of /proc/meminfo in KiB."""
    return _field(Path("/proc/meminfo"), field)


def _field(path: Path, field: str) -> int:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    return 0


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
