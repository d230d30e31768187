"""The system-dependent part: processors, memory, process trees.

Everything that reads ``/proc`` or control groups is here, so that another system needs another
version of this module only.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence

from garrison import _core

# Strings, not paths, in this module: `pathlib` would take a tenth of a start's time.
CGROUPS = "/sys/fs/cgroup"
PROC = "/proc"


def usable_cpus() -> int:
    """The number of processors that this process may use: affinity and cgroup quota, rounded up."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (OSError, AttributeError):  # a sandbox without the call, another system
        allowed = os.cpu_count() or 1
    override = os.environ.get("PYTHON_CPU_COUNT", "")
    if override.isdigit() and int(override) > 0:
        return int(override)
    quota = min((q for q in (_quota_v2(), _quota_v1()) if q is not None), default=math.inf)
    return max(1, min(allowed, math.ceil(quota) if math.isfinite(quota) else allowed))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _own_cgroups(controller: str) -> list[str]:
    """Directories of this process's control group and its ancestors, of v1 (`controller`) or v2."""
    for line in _read(f"{PROC}/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and controller in controllers.split(","):
            mounted = f"{CGROUPS}/{controller}"
            if not controller and not os.access(f"{CGROUPS}/cgroup.controllers", os.F_OK):
                mounted = f"{CGROUPS}/unified"
            steps = [step for step in path.split("/") if step]
            return ["/".join([mounted, *steps[:end]]) for end in range(len(steps), -1, -1)]
    return []


def _quota_v2() -> float | None:
    quotas = []
    for folder in _own_cgroups(""):
        limit, _, period = _read(f"{folder}/cpu.max").strip().partition(" ")
        if limit.isdigit() and period.isdigit() and int(period):
            quotas.append(int(limit) / int(period))
    return min(quotas, default=None)


def _quota_v1() -> float | None:
    quotas = []
    for folder in _own_cgroups("cpu"):
        limit = _read(f"{folder}/cpu.cfs_quota_us").strip()
        period = _read(f"{folder}/cpu.cfs_period_us").strip()
        if limit.isdigit() and period.isdigit() and int(period):
            quotas.append(int(limit) / int(period))
    return min(quotas, default=None)


def available_memory() -> int:
    """Bytes that this process may still take, on the machine and in its control groups."""
    left = _core.memory_left(str(PROC), str(CGROUPS))
    return sys.maxsize if left is None else min(left, sys.maxsize)


def total_memory() -> int:
    """Bytes of memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def oom_kills() -> int:
    """The number of processes that the kernel has killed so far because memory ran out."""
    # Counts those of every cgroup too; some sandboxes do not have it.
    count = _kills_on_this_machine()
    if count is not None:
        return count
    counts = [0]
    for folder in _own_cgroups("")[:1]:
        counts.extend(_counter(f"{folder}/memory.events", "oom_kill"))
    for folder in _own_cgroups("memory")[:1]:
        counts.extend(_counter(f"{folder}/memory.oom_control", "oom_kill"))
    return max(counts)


def _kills_on_this_machine() -> int | None:
    """Read without a text file object, which would touch more of a new supervisor's pages."""
    try:
        file = os.open(f"{PROC}/vmstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(file, 1 << 16)
    finally:
        os.close(file)
    _, found, rest = text.partition(b"\noom_kill ")
    return int(rest.split(None, 1)[0]) if found else None


def _counter(path: str, key: str) -> list[int]:
    words = [line.split() for line in _read(path).splitlines()]
    return [int(word[1]) for word in words if len(word) == 2 and word[0] == key]  # noqa: PLR2004


class ProcessStatus:
    """A process as ``/proc/PID/stat`` shows it."""

    __slots__ = ("group", "parent", "session", "started", "state")

    def __init__(self, state: str, parent: int, group: int, session: int, started: int) -> None:
        self.state, self.parent, self.group, self.session = state, parent, group, session
        self.started = started
        """Clock ticks from the machine's start to the process's own."""

    @property
    def alive(self) -> bool:
        """Whether it runs, or could."""
        return self.state not in "ZX"

    @property
    def stopped(self) -> bool:
        """Whether a signal has stopped it."""
        return self.state == "T"


def process_status(pid: int) -> ProcessStatus | None:
    """Read the state of a process; None if there is none, or no ``/proc``."""
    try:
        file = os.open(f"{PROC}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(file, 4096)
    except OSError:  # gone meanwhile
        return None
    finally:
        os.close(file)
    # The name in parentheses may itself contain parentheses and spaces.
    fields = text.rpartition(b")")[2].split()
    return ProcessStatus(fields[0].decode(), *(int(fields[at]) for at in (1, 2, 3, 19)))


def processes() -> dict[int, ProcessStatus]:
    """Read the states of all processes."""
    try:
        names = os.listdir(PROC)
    except OSError:
        return {}
    looks = ((int(name), process_status(int(name))) for name in names if name.isdigit())
    return {pid: seen for pid, seen in looks if seen is not None}


def start_ticks(pid: int) -> int:
    """The start time of a process, which distinguishes it from others with its pid; 0 if none."""
    seen = process_status(pid)
    return seen.started if seen else 0


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0 if there is no such process."""
    seen = process_status(pid)
    return seen.parent if seen else 0


def children(pid: int) -> list[int]:
    """Return the children of a process, if only its main thread has any."""
    try:
        file = os.open(f"{PROC}/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # Some kernels have no list.
        return [child for child, seen in processes().items() if seen.parent == pid]
    try:
        parts = iter(lambda: os.read(file, 1 << 16), b"")
        return [int(child) for child in b"".join(parts).split()]
    except OSError:
        return []
    finally:
        os.close(file)


def signal_mask(pid: int, which: str) -> int:
    """Return a mask of ``/proc/PID/status``: "SigCgt" has those with a handler."""
    for line in _read(f"{PROC}/{pid}/status").splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1], 16)
    return 0


def has_handler(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    return bool(signal_mask(pid, "SigCgt") >> (number - 1) & 1)


def kill_if_alive(pid: int, number: int) -> bool:
    """Send a signal to a process; False if there is no such process."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def is_readable(fd: int, seconds: float) -> bool:
    """Wait until a descriptor is readable, or at its end."""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        if _core.poll([fd], max(0.0, left) * 1000):
            return True
        if left <= 0:
            return False


def region_size() -> int:
    """Bytes of a pool's file for each process's heap: enough for all of the memory.

    Half of it is for small blocks. It takes neither memory nor address space until it is used.
    """
    return 1 << max(31, (2 * total_memory() - 1).bit_length())


@functools.cache
def boot_id() -> str:
    """Return the id of this boot of the machine; empty without ``/proc``."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def is_same_machine(other: str) -> bool:
    """Whether a boot id of another process may be that of this machine."""
    return not other or not boot_id() or other == boot_id()


FileId = tuple[int, int]
"""The identity of a file on this machine."""


def file_id(fd: int) -> FileId:
    """Return the identity of a descriptor's file."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def find_processes_with_open_files(
    marks: Sequence[Sequence[int]],
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Find other processes that have these files open, and their descriptors.

    Processes that we may not inspect are skipped.
    """
    wanted = [tuple(each) for each in marks]
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            numbers = _open_files(f"/proc/{name}/fd")
            if all(each in numbers for each in wanted):
                yield int(name), tuple(numbers[each] for each in wanted)


def _open_files(folder: str) -> dict[tuple[int, ...], int]:
    found: dict[tuple[int, ...], int] = {}
    with contextlib.suppress(OSError):  # it has ended, or belongs to another user
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(f"{folder}/{name}")
                found[status.st_dev, status.st_ino] = int(name)
    return found
