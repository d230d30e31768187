"""The supervisor: a single-threaded process that forks, watches, replaces and ends the workers.

::

    start ──▶ fork every worker ──▶ report to the parent
      ┌──────────────────────────────────────────────┐
      │ wait   SIGCHLD | a word of the parent | the parent's end | the next deadline
      │ reap   who died? answer for its tasks: again, or lost with a reason; bury; replace
      │ late   stack, stop, look again, kill: only ever the task that is late
      └──────────────────────────────────────────────┘
    end   the parent is gone or wants it: workers, their children, itself

It is never in the way of a task: workers and parent meet in the task table. If it is killed, its
workers die with it and the parent starts a successor, which finds in the table what they held.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has none
import contextlib
import dataclasses
import gc
import os
import pickle
import select
import signal
import time
import traceback
from functools import partial
from multiprocessing import process as mp_process
from multiprocessing import util
from typing import TYPE_CHECKING, Any

from garrison import _core, _os
from garrison.supervisor._decide import Exit, Starts, fate, own_frames
from garrison.supervisor._importing import begin_work
from garrison.supervisor._recruit import Carried, Forked

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from garrison.supervisor._recruit import Recruit

__all__ = ["Crew", "at_work", "supervise"]

# `signal.signal` makes an enum of what it returns; that alone touches, and so copies, forty pages
# in each process that was forked just now.
set_handler = _signal.signal
SIGCHLD, SIGHUP, SIGINT, SIGTERM = (
    int(number) for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
)
SIG_DFL, SIG_IGN = int(signal.SIG_DFL), int(signal.SIG_IGN)

RUNNING, CLOSING, TERMINATING = range(3)
DUMP_SIGNAL = signal.SIGRTMAX - 5
GRACE = 1.0
"""Seconds that a worker has between SIGTERM and SIGKILL."""
DUMP_TIME = 0.05
"""Seconds that a late worker has to write its stack."""
LAST_WORDS = 64 << 10


@dataclasses.dataclass
class Crew:
    """What the supervisor must know of the workers it starts."""

    size: int
    workers: Callable[..., Any] | Recruit | Carried
    """Makes a process object, called in the supervisor like `multiprocessing.Process`; where that
    is a fresh interpreter, the process object that workers unpickle."""
    work: Callable[..., None]
    """Runs in a worker: ``work(table, slot, who, number, last_words, *args)``."""
    args: tuple[Any, ...]
    name: str = "PoolWorker"
    preload: tuple[str, ...] = ()
    main_path: str | None = None
    """The main module, if it is to be imported before workers are forked."""
    numbers: int = 0
    """Workers that were started by a predecessor: names and seeds go on from there."""


@dataclasses.dataclass
class _Post:
    """One slot, as the supervisor sees it."""

    slot: int
    last_words: int
    process: Any = None
    pid: int = 0
    who: int = 0
    stopped: bool = False
    settled: bool = False
    asked_at: float = 0.0
    condemned: bool = False

    @property
    def filled(self) -> bool:
        return self.pid != 0


def supervise(table: _core.Table, channel: Connection, parent: int, crew: Crew) -> None:
    """Be the supervisor of `table`. Runs in a process of its own until the pool is over."""
    try:
        supervisor = Supervisor(table, channel, parent, crew)
    except Exception as error:
        _report(channel, "failed", error)
        return
    supervisor.run()


def _report(channel: Connection, kind: str, detail: object) -> None:
    """Tell the parent something that does not stand in the table."""
    try:
        message = pickle.dumps((kind, detail))
    except Exception:
        message = pickle.dumps((kind, RuntimeError(str(detail))))
    with contextlib.suppress(OSError):
        channel.send_bytes(message)


class Supervisor:
    """The state between two waits."""

    def __init__(self, table: _core.Table, channel: Connection, parent: int, crew: Crew) -> None:
        self.table, self.channel, self.parent, self.crew = table, channel, parent, crew
        self.words = _core.Supervisor(table)
        self.starts = Starts(crew.size)
        self.posts = [
            _Post(slot, os.memfd_create("garrison-last-words", os.MFD_CLOEXEC))
            for slot in range(crew.size)
        ]
        self.started = crew.numbers
        self.oom_kills = 0
        self.completed = 0
        self.completed_then = 0
        self.claims = 0
        self.orphaned = False
        self._prepare()

    # --- Setting up -----------------------------------------------------------------------

    def _prepare(self) -> None:
        for fd in range(3):
            # A daemon may have closed them; nothing else must get these numbers.
            try:
                os.fstat(fd)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
        # A group of its own: Ctrl-C in the terminal is for the parent, which then decides.
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        _core.adopt_orphans()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # An event loop of the parent may have left its own descriptor here.
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        set_handler(SIGCHLD, lambda *_: None)
        # What a terminal sends when it closes is for the parent as well.
        set_handler(SIGHUP, SIG_IGN)
        set_handler(SIGINT, SIG_IGN)
        set_handler(SIGTERM, self._on_term)
        self.parent_fd = os.pidfd_open(self.parent)
        self.poll = select.poll()
        for fd in (self.wake_read, self.channel.fileno(), self.parent_fd):
            self.poll.register(fd, select.POLLIN)
        gc.freeze()

    def _on_term(self, *_: object) -> None:
        self.orphaned = True

    def run(self) -> None:
        """Keep the crew at work until it is over."""
        try:
            self._take_over()
            self._fill_all()
        except Forked:
            raise
        except BaseException as error:
            self._end_workers(grace=0)
            _report(self.channel, "failed", error)
            return
        _report(self.channel, "started", None)
        self.oom_kills = _os.oom_kills()
        while not self._over():
            self._wait()
            self._reap()
            self._end_the_late()
            self._replace()
        self._leave()

    def _take_over(self) -> None:
        """Answer for what a dead predecessor left. With none, nothing is found."""
        pids = {}
        for slot in range(self.crew.size):
            info = self.table.slot(slot)
            if info["who"] and not info["over"]:
                pids[info["who"]] = info["pid"]
                self.words.bury(slot)
        held, forgotten = self.words.stranded()
        for cell, who in held:
            note = "was killed together with its supervisor"
            self._answer(cell, Exit(pids.get(who, 0), -signal.SIGKILL, note=note))
        for cell in forgotten:
            self.words.enter_again(cell)

    # --- Starting workers -----------------------------------------------------------------

    def _fill_all(self) -> None:
        for post in self.posts:
            self._start(post)
        for post in self.posts:
            self._enter(post)

    def _fill(self, post: _Post) -> bool:
        try:
            self._start(post)
        except OSError as error:
            # No process to be had at the moment: try again shortly, up to the limit.
            time.sleep(0.01)
            self._start_failed(f"cannot start a worker: {error}")
            return False
        self._enter(post)
        return True

    def _start(self, post: _Post) -> None:
        post.who = self.words.enlist(post.slot)
        os.ftruncate(post.last_words, 0)
        os.lseek(post.last_words, 0, os.SEEK_SET)
        self.started += 1
        name = f"{self.crew.name}-{self.started}"
        # Programs ask `current_process()._identity` which worker they are in.
        identity = (self.started,)
        if isinstance(self.crew.workers, Carried):
            post.process = self._fork(post, self.crew.workers, name, identity)
        else:
            post.process = self._start_process(post, name, identity)
        _core.crash_point("supervisor.forked")

    def _start_process(self, post: _Post, name: str, identity: tuple[int, ...]) -> Any:
        make: Any = self.crew.workers
        args = (self, os.getpid(), post.slot, post.who, self.started, post.last_words)
        process = make(target=_become_worker, args=args)
        process.name, process._identity = name, identity
        process.start()
        # Known to multiprocessing, it would be reaped by the next start, and not be seen to end.
        known: Any = mp_process
        known._children.discard(process)
        return process

    def _fork(self, post: _Post, carried: Carried, name: str, identity: tuple[int, ...]) -> Child:
        """Fork a worker that leaves these frames, and begins where this interpreter did."""
        supervisor = os.getpid()
        util._flush_std_streams()  # type: ignore[attr-defined]
        pid = os.fork()
        if pid:
            return Child(pid)
        global _place  # noqa: PLW0603 - one per process, set once
        try:
            _cut_ties(self, supervisor, post.last_words)
            _place = (self.table, post.slot, post.who, self.started, post.last_words)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        raise Forked(carried.method, partial(carried.run, name, identity, post.last_words))

    def _enter(self, post: _Post) -> None:
        post.pid = post.process.pid
        post.stopped = post.settled = post.condemned = False
        post.asked_at = 0.0
        self.words.set_pid(post.slot, post.pid)

    def _start_failed(self, why: str) -> None:
        if self.starts.failed():
            _report(self.channel, "broken", why)
            self.words.give_up()

    def _replace(self) -> None:
        for post in self.posts:
            if not post.filled and not self.table.broken and self._is_wanted():
                self._fill(post)

    def _is_wanted(self) -> bool:
        phase = self.table.phase
        return phase == RUNNING or (phase == CLOSING and self.table.waiting > 0)

    # --- Waiting --------------------------------------------------------------------------

    def _wait(self) -> None:
        limit = self._time_left()
        if limit is None:
            self.words.doze(True)
            limit = self._time_left()
        ready = dict(self.poll.poll(limit))
        self.words.doze(False)
        if self.wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self.wake_read, 4096)
        if self.channel.fileno() in ready:
            self._hear()
        if self.parent_fd in ready:
            self.orphaned = True

    def _hear(self) -> None:
        """Take the parent's words. What they are about stands in the table."""
        try:
            heard = os.read(self.channel.fileno(), 4096)
        except OSError:
            heard = b""
        if not heard:
            # The parent has become another program (exec), and every copy of it is gone too.
            self.orphaned = True

    def _time_left(self) -> float | None:
        """Milliseconds until something must be looked at; None if nothing can come by itself."""
        if any(not post.filled for post in self.posts) and self._is_wanted():
            return 0
        if any(post.asked_at for post in self.posts):
            return DUMP_TIME * 1000 / 2
        earliest, shortest = self.words.deadlines()
        if not shortest:
            return None
        if not earliest:
            # A task that starts while we sleep cannot be due before its own timeout is over. One
            # that was claimed just now may not have written its deadline down yet.
            claims, self.claims = self.claims, self.words.claims()
            return shortest / 1e6 if self.table.waiting or claims != self.claims else None
        left = earliest - time.monotonic_ns()
        return max(0.0, min(left, shortest) / 1e6) + 1

    # --- Deaths ---------------------------------------------------------------------------

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            post = next((post for post in self.posts if post.pid == pid), None)
            if post is None:
                continue
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                self._note_stopped(post, stopped=os.WIFSTOPPED(status))
            else:
                self._bury(post, os.waitstatus_to_exitcode(status))

    def _note_stopped(self, post: _Post, *, stopped: bool) -> None:
        post.stopped = stopped
        self.words.set_stopped(sum(each.stopped for each in self.posts))

    def _bury(self, post: _Post, exitcode: int) -> None:
        info = self.table.slot(post.slot)
        held = self.words.held_by(post.who)
        in_order = exitcode == 0 and not held
        why = self._describe(post, exitcode)
        if not in_order:
            # What a task has started must not outlive its worker's violent end.
            _os.kill_quietly(post.pid, signal.SIGKILL, group=True)
        _core.crash_point("supervisor.reaped")
        for cell in held:
            self._answer(cell, why)
        if post.stopped:
            self._note_stopped(post, stopped=False)
        self.completed += info["tasks"]
        pid, post.pid, post.process = post.pid, 0, None
        self.words.bury(post.slot, lost=not in_order)
        _core.ring_deaths()
        self._count_settled()
        if info["initialized"]:
            self.starts.succeeded()
        elif self.table.phase == RUNNING:
            text = why.stack or why.text
            self._start_failed(f"worker {pid} died before its first task: {text}")

    def _count_settled(self) -> None:
        """A worker that got past its initializer, or a task that was done, shows that it can be."""
        running = sum(self.table.slot(post.slot)["tasks"] for post in self.posts if post.filled)
        if self.completed + running != self.completed_then:
            self.completed_then = self.completed + running
            self.starts.succeeded()
        for post in self.posts:
            if post.filled and not post.settled and self.table.slot(post.slot)["initialized"]:
                post.settled = True
                self.starts.succeeded()

    def _describe(self, post: _Post, exitcode: int) -> Exit:
        kills = _os.oom_kills() if exitcode == -signal.SIGKILL else self.oom_kills
        by_oom = kills > self.oom_kills and not post.condemned
        self.oom_kills = kills
        stack = os.pread(post.last_words, LAST_WORDS, 0).decode(errors="replace").strip()
        stack = own_frames(stack, self.crew.work.__code__.co_filename)
        return Exit(post.pid, exitcode, by_oom, late=post.condemned, stack=stack)

    def _answer(self, cell: int, why: Exit) -> None:
        task = self.words.task(cell)
        verdict = fate(task, why)
        if verdict.again:
            self.words.requeue(cell, verdict.attempts)
        else:
            facts = {**why.facts, "timeout": task["timeout"] / 1e9}
            self.words.lose(cell, pickle.dumps(facts))

    # --- Deadlines ------------------------------------------------------------------------

    def _end_the_late(self) -> None:
        now = time.monotonic()
        for post in self.posts:
            if not post.filled or post.condemned:
                continue
            if not self.words.is_late(post.slot, post.who):
                post.asked_at = 0.0
            elif not post.asked_at:
                post.asked_at = now
                os.ftruncate(post.last_words, 0)
                os.lseek(post.last_words, 0, os.SEEK_SET)
                _os.kill_quietly(post.pid, DUMP_SIGNAL)
            elif now - post.asked_at >= DUMP_TIME:
                self._end_late(post)

    def _end_late(self, post: _Post) -> None:
        """Stop the worker first: it may finish, and must not be killed in its next task."""
        post.asked_at = 0.0
        _os.kill_quietly(post.pid, signal.SIGSTOP)
        with contextlib.suppress(ChildProcessError):
            options = os.WSTOPPED | os.WEXITED | os.WNOWAIT
            os.waitid(os.P_PID, post.pid, options)
        if self.words.is_late(post.slot, post.who):
            post.condemned = True
            _os.kill_quietly(post.pid, signal.SIGKILL)
        else:
            _os.kill_quietly(post.pid, signal.SIGCONT)

    # --- The end --------------------------------------------------------------------------

    def _over(self) -> bool:
        if self.orphaned or self.table.broken or self.table.phase == TERMINATING:
            return True
        crew_left = not any(post.filled for post in self.posts)
        return self.table.phase == CLOSING and crew_left and self.table.waiting == 0

    def _leave(self) -> None:
        in_order = self.table.phase == CLOSING and not self.orphaned
        if in_order:
            self.words.finish()
        else:
            parent_gone = bool(select.select([self.parent_fd], [], [], 0)[0])
            self._end_workers(grace=0 if parent_gone else GRACE)
            _os.kill_descendants(os.getpid())

    def _end_workers(self, grace: float) -> None:
        """End every worker and the group of processes it leads."""
        pids = [post.process.pid for post in self.posts if getattr(post.process, "pid", None)]
        for post in self.posts:
            if post.process is not None and not hasattr(post.process, "_popen"):
                # A process type of the user's own, with its own way to end.
                post.process.terminate()
                post.process.join()
        if grace:
            for pid in pids:
                _os.kill_quietly(pid, signal.SIGTERM)
                _os.kill_quietly(pid, signal.SIGCONT)
            end = time.monotonic() + grace
            for pid in pids:
                _os.wait_gone(pid, end - time.monotonic())
        for pid in pids:
            _os.kill_quietly(pid, signal.SIGKILL)
            _os.kill_quietly(pid, signal.SIGKILL, group=True)
        for pid in pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


@dataclasses.dataclass
class Child:
    """A worker that was forked without a process object."""

    pid: int
    _popen: None = None


_place: tuple[Any, ...] = ()


def at_work(work: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Work in the place that this process was forked for: the target of a `Recruit`."""
    begin_work(work.__code__)
    work(*_place, *args)


def _become_worker(
    supervisor: Supervisor, parent: int, slot: int, who: int, number: int, last_words: int
) -> None:
    """Run in a new worker that has a copy of the parent's memory."""
    _cut_ties(supervisor, parent, last_words)
    # Code that asks for its parent means the process which made the pool.
    mine: Any = mp_process
    mine._parent_process = supervisor_parent()
    table, crew = supervisor.table, supervisor.crew
    supervisor.posts.clear()
    begin_work(crew.work.__code__)
    crew.work(table, slot, who, number, last_words, *crew.args)


def _cut_ties(supervisor: Supervisor, parent: int, last_words: int) -> None:
    """Give up in a new worker what only the supervisor needs."""
    if not _core.die_with_parent(parent):
        os._exit(1)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for default in (SIGCHLD, SIGHUP, SIGTERM):
        set_handler(default, SIG_DFL)
    set_handler(SIGINT, signal.default_int_handler)
    for post in supervisor.posts:
        if post.last_words != last_words:
            os.close(post.last_words)
    for fd in (supervisor.wake_read, supervisor.wake_write, supervisor.parent_fd):
        os.close(fd)
    supervisor.channel.close()
    gc.unfreeze()


def supervisor_parent() -> Any:
    """Return what `multiprocessing.parent_process` was in the supervisor."""
    return _PARENT


_PARENT: Any = None


def remember_parent() -> None:
    """Keep the supervisor's own parent process, for its workers."""
    global _PARENT  # noqa: PLW0603 - one per process, set once
    _PARENT = mp_process.parent_process()
