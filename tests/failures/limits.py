"""Memory runs out: no space to reserve, a greedy task, limits that a service manager sets."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from waiting import becomes_true

from . import tasks
from .payloads import Submission
from .registry import row
from .seccomp import refuse_fallocate
from .subject import Missing, Subject, Wrong, check, same
from .system import TOKEN
from .victims import Victim

MEGABYTE = 1 << 20


@row(
    "no memory can be reserved (ENOSPC) for",
    source="#37",
    cases=["a pool", "an argument", "a result"],
    fine=["*"],
)
def no_memory_to_reserve(subject: Subject, what: str) -> None:
    if what == "a pool":
        refuse_fallocate(errno.ENOSPC)
        _refused_or_works(subject)
        return
    with subject.pool(1) as pool:
        subject.still_works(pool)
        if what == "an argument":
            refuse_fallocate(errno.ENOSPC)
            result: Any = Submission(pool, len, bytes(256 * MEGABYTE))
        else:
            result = pool.apply_async(large_result_without_memory, (256 * MEGABYTE,))
        _full_or(subject, result, 256 * MEGABYTE)
        subject.still_works(pool)
        subject.finish(pool)


def _full_or(subject: Subject, result: Any, size: int) -> None:
    """The error that says so, or the right value from a module that needs no shared memory."""
    if not subject.is_garrison:
        value = subject.value(result)
        same(value if isinstance(value, int) else len(value), size)
        return
    subject.error(result, subject.module.SharedMemoryFull)


def large_result_without_memory(size: int) -> bytes:
    """Return a result for which no memory can be reserved."""
    refuse_fallocate(errno.ENOSPC)
    return bytes(size)


def _refused_or_works(subject: Subject) -> None:
    """A pool under a limit: refused at once with an error of the system, or fully at work."""
    try:
        with subject.pool() as pool:
            subject.still_works(pool)
            subject.finish(pool)
    except (OSError, MemoryError, RuntimeError) as error:
        check(str(error), f"a {type(error).__name__} without a word")


def _files() -> None:
    used = len(os.listdir("/proc/self/fd"))
    _limit(resource.RLIMIT_NOFILE, used + 3)


def _address_space() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, used + 4 * MEGABYTE)


def _file_size() -> None:
    _limit(resource.RLIMIT_FSIZE, 4096)


def _limit(kind: int, soft: int) -> None:
    resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))


LIMITS: dict[str, tuple[int, Callable[[], None]]] = {
    "-n": (resource.RLIMIT_NOFILE, _files),
    "-v": (resource.RLIMIT_AS, _address_space),
    "-f": (resource.RLIMIT_FSIZE, _file_size),
}


@row(
    "a pool is made under a tight ulimit",
    source="#54",
    cases=list(LIMITS),
    fine=["-n-fork", "-[vf]-*"],
)
def tight_limit(subject: Subject, flag: str) -> None:
    kind, restrict = LIMITS[flag]
    with subject.pool():
        pass  # imports what it needs: an import without memory is a MemoryError of Python's own
    before = resource.getrlimit(kind)
    restrict()
    try:
        _refused_or_works(subject)
    finally:
        resource.setrlimit(kind, before)
    with subject.pool() as pool:
        subject.still_works(pool)
        subject.finish(pool)


@contextmanager
def control_group(controller: str, limits: dict[str, tuple[str, int]]) -> Iterator[Path]:
    """A control group below our own with limits, each given by its names in versions 1 and 2."""
    folder = _own_group(controller) / f"garrison-test-{os.environ[TOKEN]}"
    try:
        folder.mkdir()
    except OSError as error:
        message = f"the right to make a control group ({controller}): {error.strerror}"
        raise Missing(message) from error
    try:
        _write_limits(folder, limits)
        yield folder
    finally:
        becomes_true(lambda: not (folder / "cgroup.procs").read_text(), 2.0)
        folder.rmdir()


def _own_group(controller: str) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}")
        if not controllers and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Path(f"/sys/fs/cgroup{path}")
    message = f"a control group with the controller {controller}"
    raise Missing(message)


def _write_limits(folder: Path, limits: dict[str, tuple[str, int]]) -> None:
    for old, (new, value) in limits.items():
        found = [folder / name for name in (old, new) if (folder / name).exists()]
        if not found:
            message = f"{old} or {new} in control groups"
            raise Missing(message)
        found[0].write_text(str(value))


def _enter(folder: Path) -> Callable[[], None]:
    def enter() -> None:
        Path(folder, "cgroup.procs").write_text("0")

    return enter


@row(
    "one greedy task among 1,000 good ones under a memory limit (OOM killer)",
    source="#50",
    limit=30.0,
)
def greedy_task(subject: Subject) -> None:
    limits = {"memory.limit_in_bytes": ("memory.max", 160 * MEGABYTE)}
    with (
        control_group("memory", limits) as folder,
        Victim(subject, one_greedy_among_many, before=_enter(folder)) as victim,
    ):
        same(victim.line(), "ok")
        same(victim.ended(), 0)


def one_greedy_among_many(subject: Subject) -> None:
    """Run good tasks and a greedy one; say what came of them."""
    with subject.pool() as pool:
        good = [pool.apply_async(tasks.square, (n,)) for n in range(500)]
        greedy = pool.apply_async(eat_memory)
        good += [pool.apply_async(tasks.square, (n,)) for n in range(500, 1000)]
        same([subject.value(result) for result in good], [n * n for n in range(1000)])
        error: Any = subject.death(greedy, signal=9)
        if subject.is_garrison:
            check(error.out_of_memory is True, f"out_of_memory = {error.out_of_memory!r}")
        subject.finish(pool)
    Victim.say("ok")


LITTLE = {"memory.limit_in_bytes": ("memory.max", 300 * MEGABYTE)}


@row(
    "more than the memory limit of a control group is put into",
    source="supervisor",
    cases=["a dict", "a queue", "small items", "results"],
    limit=60.0,
    only_garrison="it takes private memory, until the kernel kills it",
)
def filled_to_the_limit(subject: Subject, what: str) -> None:
    with (
        control_group("memory", LITTLE) as folder,
        Victim(subject, fill_and_empty, what, before=_enter(folder)) as victim,
    ):
        same(victim.line(), "ok")
        same(victim.ended(), 0)
        kills = folder / "memory.oom_control"
        text = kills.read_text() if kills.exists() else (folder / "memory.events").read_text()
        check("oom_kill 0" in text, text)


def fill_and_empty(subject: Subject, what: str) -> None:
    """Put large items until the first error; what was put before is all there."""
    if what == "results":
        _fill_with_results(subject)
    elif what == "a dict":
        with subject.module.Manager() as manager:
            shared = manager.dict()
            count = _fill_until_full(subject, lambda n, item: shared.update({n: item}))
            same([shared.pop(n)[0] for n in range(count)], [n % 256 for n in range(count)])
            shared[0] = bytes(10 * MEGABYTE)
    else:
        queue = subject.module.Queue()
        size = 20_000 if what == "small items" else 10 * MEGABYTE
        count = _fill_until_full(subject, lambda _, item: queue.put(item), size)
        same([queue.get()[0] for _ in range(count)], [n % 256 for n in range(count)])
        queue.put(bytes(size))
        same(len(queue.get()), size)
    Victim.say("ok")


def _fill_until_full(
    subject: Subject, put: Callable[[int, bytes], None], size: int = 10 * MEGABYTE
) -> int:
    for count in range(100_000):
        try:
            put(count, bytes([count % 256]) * size)
        except subject.module.SharedMemoryFull as error:
            check("are left" in str(error), str(error))
            check(count * size > 150 * MEGABYTE, f"full with {count} items")
            return count
    message = "there is always room"
    raise Wrong(message)


def _fill_with_results(subject: Subject) -> None:
    with subject.pool(2) as pool:
        results = [pool.apply_async(bytes, (10 * MEGABYTE,)) for _ in range(100)]
        for result in results:
            result.wait()
        refused = [result for result in results if not result.successful()]
        check(0 < len(refused) < 90, f"{len(refused)} of 100 results were refused")
        for result in refused:
            text = str(subject.error(result, subject.module.SharedMemoryFull))
            check("take results earlier" in text, text)
        same({len(result.get()) for result in results if result.successful()}, {10 * MEGABYTE})
        del results, result
        subject.still_works(pool)
        subject.finish(pool)


def eat_memory() -> NoReturn:
    """Take memory until the end."""
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1024)) * 1024)


@row(
    "no process can be started (EAGAIN)",
    source="#54",
    cases=["at creation", "for a replacement"],
    limit=20.0,
    fine=["at creation-*"],
)
def no_process_to_start(subject: Subject, when: str) -> None:
    with (
        control_group("pids", {"pids.max": ("pids.max", 1000)}) as folder,
        Victim(subject, start_under_limit, str(folder), when, before=_enter(folder)) as victim,
    ):
        same(victim.line(), "ok")
        same(victim.ended(), 0)


def start_under_limit(subject: Subject, folder: str, when: str) -> None:
    """Meet the limit of processes, then have it lifted; say what came of it."""
    limit, current = Path(folder, "pids.max"), Path(folder, "pids.current")
    if when == "at creation":
        limit.write_text(str(int(current.read_text()) + 1))
        _refused_or_works(subject)
        limit.write_text("1000")
        _refused_or_works(subject)
    else:
        _lose_a_worker(subject, lambda: limit.write_text("1"), lambda: limit.write_text("1000"))
    Victim.say("ok")


def _lose_a_worker(
    subject: Subject, restrict: Callable[[], object], lift: Callable[[], object]
) -> None:
    """With no process to be had, the pool goes on with what it has, or says that it is broken."""
    with subject.pool() as pool:
        subject.still_works(pool)
        restrict()
        subject.death(pool.apply_async(tasks.die, ("SIGKILL",)))
        end = time.monotonic() + 1.0
        while time.monotonic() < end:  # one worker is missing all the time
            subject.still_works(pool)
        lift()
        subject.still_works(pool)
        subject.finish(pool)
