"""Memory and processor time of this process and all that it started, as the kernel counts them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

MB = 1_000_000


def reset_peak() -> float:
    """Begin a new peak; returns the present resident memory in MB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak() -> float:
    """The most resident memory since `reset_peak`, in MB."""
    return _status("VmHWM")


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / MB
    raise LookupError(field)


def tree() -> Iterator[Path]:
    """The /proc folders of this process and its descendants."""
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        yield Path(f"/proc/{process.pid}")


def processor_seconds() -> float:
    """Processor time of the tree so far, to the nanosecond."""
    total = 0
    for process in tree():
        for thread in (process / "task").iterdir():
            with contextlib.suppress(OSError):
                total += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
    return total / 1e9


def memory() -> float:
    """Memory of the tree in MB: what is private, and every shared page once."""
    anonymous = shared = 0.0
    memfds: dict[int, int] = {}
    for process in tree():
        with contextlib.suppress(OSError):
            usage = _rollup(process)
            anonymous += usage["Pss_Anon"]
            shared += usage["Pss_Shmem"]
            memfds.update(_memfds(process))
    # An anonymous file may hold pages that no process has mapped at the moment.
    return (anonymous + max(shared, sum(memfds.values()))) / MB


def anonymous_and_memfds() -> float:
    """The same while tasks map and unmap: each process's part of a shared page is another then."""
    private, memfds = 0, dict[int, int]()
    for process in tree():
        with contextlib.suppress(OSError):
            private += _rollup(process)["Pss_Anon"]
            memfds.update(_memfds(process))
    return (private + sum(memfds.values())) / MB


def _rollup(process: Path) -> dict[str, int]:
    lines = (process / "smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def _memfds(process: Path) -> Iterator[tuple[int, int]]:
    for fd in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if str(fd.readlink()).startswith("/memfd:"):
                status = fd.stat()
                yield status.st_ino, status.st_blocks * 512
