"""A storm: kill processes of a pool at random moments under a mixed load; nothing may be lost.

``python -m storms.pool --kills 2000 [--seed N] [--start-method fork|spawn|forkserver]``, in the
folder `tests`.

One kill in twenty hits the supervisor, the others hit workers. At the end: every task gave its
result, once; nothing hung; no process, descriptor, thread, mapping or shared memory is left.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import multiprocessing
import os
import random
import resource
import signal
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import garrison
from footprint import Footprint, put_mark
from waiting import becomes_true

PATIENCE = 60.0
RETRIES = 100
SUPERVISOR_SHARE = 1 / 20
SURVIVABLE = 3
"""Deaths before the first task, in a row, at which the smallest pools break."""
PACE = {"fork": 0.01, "forkserver": 0.04, "spawn": 0.1}
SMALLEST, LARGEST = 100_000, 5_000_000
NOISE_KIB = 64 << 10
KINDS = (
    *("apply_async", "map", "imap", "imap_unordered", "large arguments", "large results"),
    *("cancelled calls", "cancelled maps", "closed imaps"),
)


def cube(x: int) -> int:
    return x * x * x


def spin(microseconds: int) -> int:
    end = time.perf_counter_ns() + 1000 * microseconds
    while time.perf_counter_ns() < end:
        pass
    return microseconds


def block_of(letter: int, size: int) -> bytes:
    return bytes([letter]) * size


@dataclass
class Tally:
    """What happened; the four lists have to stay empty."""

    done: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    hung: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    statistics: Any = None

    @property
    def is_clean(self) -> bool:
        return not (self.hung or self.lost or self.duplicated or self.left)


class Killer(threading.Thread):
    """Kills a process of the pool after each of its random pauses, and counts."""

    def __init__(self, pool: Any, rng: random.Random, kills: int, pace: float, mark: int) -> None:
        super().__init__(name="killer", daemon=True)
        self._pool, self._rng, self._left, self._pace, self._mark = pool, rng, kills, pace, mark
        self.kills: Counter[str] = Counter()
        self.done = threading.Event()
        self._completed, self._in_a_row = 0, 0

    def run(self) -> None:
        try:
            while self._left > 0:
                self.done.wait(self._rng.expovariate(1 / self._pace))
                self._left -= self._kill_one()
        finally:
            self.done.set()

    def stop(self) -> None:
        self._left = 0
        self.done.set()
        self.join()

    def _kill_one(self) -> bool:
        victim = "supervisor" if self._rng.random() < SUPERVISOR_SHARE else "worker"
        number = self._rng.random()
        if victim == "worker" and not self._may_kill_worker():
            return False
        try:
            pids = self._pids(victim)
            killed = bool(pids) and self._kill(pids[int(number * len(pids))])
        except (ProcessLookupError, FileNotFoundError):
            return False
        self.kills[victim] += killed
        return killed

    def _may_kill_worker(self) -> bool:
        """Whether workers get on: a pool may break if several in a row die before a task."""
        completed = self._pool.statistics().completed
        if completed != self._completed:
            self._completed, self._in_a_row = completed, 0
        self._in_a_row += 1
        return self._in_a_row < SURVIVABLE

    def _pids(self, victim: str) -> list[int]:
        if victim == "supervisor":
            pid = self._pool.statistics().supervisor_pid
            return [pid] if pid else []
        return [pid for worker in self._pool._pool if (pid := worker.pid) is not None]

    def _kill(self, pid: int) -> bool:
        # A pid may long be another process's: the descriptor and the mark make sure.
        descriptor = os.pidfd_open(pid)
        try:
            if resource.prlimit(pid, resource.RLIMIT_MSGQUEUE)[0] != self._mark:
                return False
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False  # dead already, and not yet buried
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
        return True


class Load:
    """Rounds of work of six kinds, each checked."""

    def __init__(self, pool: Any, rng: random.Random, tally: Tally) -> None:
        self._pool, self._rng, self._tally = pool, rng, tally
        self._kinds: dict[str, Callable[[], None]] = dict(
            zip(
                KINDS,
                (
                    self._apply_async,
                    self._map,
                    self._imap,
                    self._imap_unordered,
                    self._large_arguments,
                    self._large_results,
                    self._cancelled_calls,
                    self._cancelled_maps,
                    self._closed_imaps,
                ),
                strict=True,
            )
        )

    def round(self) -> None:
        """One kind of work; what is raised is a loss."""
        kind = self._rng.choice(KINDS)
        faulthandler.dump_traceback_later(2 * PATIENCE, exit=True)
        try:
            self._kinds[kind]()
        except multiprocessing.TimeoutError:
            self._tally.hung.append(f"{kind}: nothing for {PATIENCE:g} s")
        except Exception as error:
            self._tally.lost.append(f"{kind}: {type(error).__name__}: {error}")
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _expect(self, kind: str, found: list[Any], wanted: list[Any]) -> None:
        more = Counter(found) - Counter(wanted)
        less = Counter(wanted) - Counter(found)
        self._tally.done[kind] += len(found)
        if less or len(found) < len(wanted):
            self._tally.lost.append(f"{kind}: {less.total()} of {len(wanted)}")
        if more:
            self._tally.duplicated.append(f"{kind}: {more.total()} that nobody asked for")
        if not (more or less) and found != wanted:
            self._tally.lost.append(f"{kind}: the order")

    def _apply_async(self) -> None:
        called: list[int] = []
        count = self._rng.randrange(1, 200)
        results = [self._pool.apply_async(cube, (n,), callback=called.append) for n in range(count)]
        wanted = [cube(n) for n in range(count)]
        self._expect("apply_async", [result.get(PATIENCE) for result in results], wanted)
        self._expect("callback", sorted(called), wanted)

    def _map(self) -> None:
        count = self._rng.randrange(1, 3000)
        found = self._pool.map_async(cube, range(count)).get(PATIENCE)
        self._expect("map", found, [cube(n) for n in range(count)])

    def _imap(self) -> None:
        lengths = [self._rng.randrange(2000) for _ in range(self._rng.randrange(1, 100))]
        chunk = self._rng.choice([1, 1, 5])
        found = list(_each(self._pool.imap(spin, lengths, chunk)))
        self._expect("imap", found, lengths)

    def _imap_unordered(self) -> None:
        count = self._rng.randrange(1, 300)
        chunk = self._rng.choice([1, 1, 7])
        found = list(_each(self._pool.imap_unordered(cube, iter(range(count)), chunk)))
        self._expect("imap_unordered", sorted(found), [cube(n) for n in range(count)])

    def _large_arguments(self) -> None:
        blocks = [block_of(*self._shape()) for _ in range(self._rng.randrange(1, 9))]
        results = [self._pool.apply_async(zlib.crc32, (block,)) for block in blocks]
        found = [result.get(PATIENCE) for result in results]
        self._expect("large arguments", found, [zlib.crc32(block) for block in blocks])

    def _large_results(self) -> None:
        shapes = [self._shape() for _ in range(self._rng.randrange(1, 9))]
        results = [self._pool.apply_async(block_of, shape) for shape in shapes]
        found = [zlib.crc32(result.get(PATIENCE)) for result in results]
        self._expect("large results", found, [zlib.crc32(block_of(*shape)) for shape in shapes])

    def _cancelled_calls(self) -> None:
        """Cancel some calls among others; each other one gives its result."""
        lengths = [self._rng.randrange(20_000) for _ in range(self._rng.randrange(1, 60))]
        results = [self._pool.apply_async(spin, (length,)) for length in lengths]
        found, wanted = [], []
        for length, result in self._rng.sample(
            list(zip(lengths, results, strict=True)), len(results)
        ):
            if self._rng.random() < 0.5 and result.cancel(grace=self._grace()):
                self._check_cancelled("cancelled calls", result)
            else:
                found.append(result.get(PATIENCE))
                wanted.append(length)
        self._expect("cancelled calls", found, wanted)

    def _cancelled_maps(self) -> None:
        lengths = [self._rng.randrange(5000) for _ in range(self._rng.randrange(1, 300))]
        beside = self._pool.map_async(cube, range(100))
        result = self._pool.map_async(spin, lengths)
        time.sleep(self._rng.random() / 50)
        if result.cancel(grace=self._grace()):
            self._check_cancelled("cancelled maps", result)
        else:
            self._expect("cancelled maps", result.get(PATIENCE), lengths)
        self._expect("map", beside.get(PATIENCE), [cube(n) for n in range(100)])

    def _closed_imaps(self) -> None:
        lengths = [self._rng.randrange(5000) for _ in range(self._rng.randrange(1, 300))]
        given: Any = self._rng.choice([lengths, iter(lengths)])
        results = self._pool.imap(spin, given, self._rng.choice([1, 1, 5]))
        count = self._rng.randrange(len(lengths))
        found = [results.next(PATIENCE) for _ in range(count)]
        results.close(grace=self._grace())
        self._expect("closed imaps", [*found, *_each(results)], lengths[:count])

    def _grace(self) -> float:
        return self._rng.choice([0, 0.002, PATIENCE])

    def _check_cancelled(self, kind: str, result: Any) -> None:
        self._tally.done[kind] += 1
        try:
            result.get(PATIENCE)
        except garrison.TaskCancelled:
            return
        self._tally.duplicated.append(f"{kind}: the result of a cancelled call")

    def _shape(self) -> tuple[int, int]:
        return self._rng.randrange(256), self._rng.randrange(SMALLEST, LARGEST)


def _each(values: Any) -> Iterator[Any]:
    while True:
        try:
            yield values.next(PATIENCE)
        except StopIteration:
            return


def storm(kills: int, seed: int, pace: float, workers: int, mark: int) -> Tally:
    """Make a pool, work and kill until all kills are done, then work in calm and close."""
    rng = random.Random(seed)
    tally = Tally()
    pool = garrison.Pool(workers, retries=RETRIES)
    killer = Killer(pool, random.Random(seed + 1), kills, pace, mark)
    load = Load(pool, rng, tally)
    killer.start()
    while not killer.done.is_set() and not (tally.hung or tally.lost):
        load.round()
    killer.stop()
    tally.kills = killer.kills
    for _ in range(len(KINDS)):
        load.round()
    tally.statistics = pool.statistics()
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    pool.close()
    pool.join()
    faulthandler.cancel_dump_traceback_later()
    return tally


@dataclass(frozen=True)
class Memory:
    """Shared memory in KiB: of this process, and of the machine beyond what anybody holds."""

    own: int
    of_nobody: int

    @classmethod
    def now(cls) -> Memory:
        disk = os.statvfs("/dev/shm")
        named = (disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024
        total = _kib(Path("/proc/meminfo"), "Shmem")
        return cls(_kib(Path("/proc/self/status"), "RssShmem"), total - named - _held_kib())


def _held_kib() -> int:
    """The size of all anonymous files that some process has open or mapped."""
    sizes: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        for folder in ("fd", "map_files"):
            try:
                sizes.update(_anonymous_files(process / folder))
            except OSError:  # it has ended, or is another user's
                continue
    return sum(sizes.values()) // 2


def _anonymous_files(folder: Path) -> Iterator[tuple[int, int]]:
    for path in folder.iterdir():
        if str(path.readlink()).startswith("/memfd:"):
            found = path.stat()
            yield found.st_ino, found.st_blocks


def _kib(path: Path, wanted: str) -> int:
    lines = path.read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{wanted}:"))


def left_since(before: Footprint, memory: Memory, mark: int, seconds: float) -> list[str]:
    """What is still there when it has had its time to go."""

    def left() -> list[str]:
        gc.collect()
        now = Memory.now()
        found = Footprint(mark).taken_since(before)
        if now.own > memory.own:
            found.append(f"{now.own - memory.own} KiB of shared memory in this process")
        if now.of_nobody > memory.of_nobody + NOISE_KIB:
            found.append(f"{now.of_nobody - memory.of_nobody} KiB of shared memory of nobody")
        return found

    becomes_true(lambda: not left(), seconds)
    return left()


def main() -> int:
    """Run a storm and say what came of it; the status is 1 if anything was lost or left."""
    given = _arguments()
    multiprocessing.set_start_method(given.start_method, force=True)
    mark = put_mark()
    with garrison.Pool(1) as pool:
        pool.apply(cube, (1,))
    pool.join()
    before, memory, start = Footprint(mark), Memory.now(), time.monotonic()
    pace = given.pace or PACE[given.start_method]
    sys.stdout.write(f"seed {given.seed}, start method {given.start_method}\n")
    sys.stdout.flush()
    tally = storm(given.kills, given.seed, pace, given.workers, mark)
    tally.left = left_since(before, memory, mark, 5.0)
    _say(tally, time.monotonic() - start)
    return 0 if tally.is_clean else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--start-method", choices=list(PACE), default="fork")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pace", type=float, help="mean seconds between two kills")
    return parser.parse_args()


def _say(tally: Tally, seconds: float) -> None:
    kills = ", ".join(f"{count} of {victim}s" for victim, count in sorted(tally.kills.items()))
    done = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.done.items()))
    seen = tally.statistics
    lines = [
        f"kills: {tally.kills.total()} ({kills}) in {seconds:.1f} s",
        f"the pool saw: {seen.deaths} deaths, {seen.supervisors_lost} supervisors lost,",
        f"              {seen.retried} attempts repeated",
        f"results: {tally.done.total()} ({done})",
        *_counted("hung", tally.hung),
        *_counted("lost", tally.lost),
        *_counted("duplicated", tally.duplicated),
        *_counted("left behind", tally.left),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _counted(name: str, texts: list[str]) -> list[str]:
    return [f"{name}: {len(texts)}", *(f"  {text}" for text in texts[:20])]


if __name__ == "__main__":
    sys.exit(main())
