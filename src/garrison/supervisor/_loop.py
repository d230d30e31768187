"""The supervisor: a single-threaded process that forks, watches, replaces and ends the workers.

::

    start ──▶ fork every worker ──▶ report to the parent
      ┌──────────────────────────────────────────────┐
      │ wait   SIGCHLD | a word of the parent | the parent's end | the next deadline
      │ reap   who died? answer for its tasks: again, or lost with a reason; its children; replace
      │ late   stack, stop, look again, kill: only ever the task that is late
      └──────────────────────────────────────────────┘
    end   the parent is gone or wants it: workers, their children, itself

It is in the program's process group and session, as the workers are, and blocks every signal that
a terminal sends: what they mean is for the program to decide. It is never in the way of a task:
workers and parent meet in the task table. If it is killed, its workers die with it and the parent
starts a successor, which finds in the table what they held.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys
import time
from functools import partial
from multiprocessing import process as mp_process
from multiprocessing import util

from garrison import _core, _os
from garrison._lending import Desk
from garrison._processes import NONE, SLICE, Watch
from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor import _crash_stack, _identity, _syscalls
from garrison.supervisor._decisions import Exit, Starts, fate, own_frames
from garrison.supervisor._fresh_worker import Carried, Forked
from garrison.supervisor._import_guard import begin_work
from garrison.supervisor._orphans import Strays
from garrison.supervisor._shutdown import end_workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison._descriptors import Channel
    from garrison.supervisor._fork_server import Preload
    from garrison.supervisor._fresh_worker import Recruit

__all__ = ["Crew", "at_work", "supervise"]

RUNNING, CLOSING, TERMINATING = range(3)
DUMP_SIGNAL = signal.SIGRTMAX - 5
DUMP_TIME = 0.05
"""Seconds that a late worker has to write its stack."""
PAUSE = 0.5
"""Seconds between two looks at a late task whose program is stopped as a whole."""
LAST_WORDS = 64 << 10
START_AGAIN = 0.1
"""Seconds until the next attempt to start a worker for which there was no process."""


class Crew:
    """What the supervisor must know of the workers it starts.

    Parameters
    ----------
    size : int
        How many there are.
    workers : callable, Recruit or Carried
        Makes a process object, called in the supervisor like `multiprocessing.Process`; where that
        is a fresh interpreter, the process object that workers unpickle.
    work : callable
        Runs in a worker: ``work(table, slot, who, number, last_words, *args)``.
    args : tuple
        The rest of its arguments.
    name : str, optional
        What the workers' names begin with.
    served : tuple, optional
        Under forkserver, what the fork server imports in advance.
    """

    identity: tuple[int, ...] = ()
    """That of the process which has the pool; a worker's has one number more."""
    counter: tuple[_core.Id, int] | None = None
    """Where the numbers in the workers' names are drawn."""
    mask: tuple[int, ...] = ()
    """Signals that the program has blocked."""
    preload: tuple[str, ...] = ()
    """What is imported before the first worker is started."""
    numbers: int = 0
    """Workers that were started by a predecessor: seeds go on from there."""

    def __init__(
        self,
        size: int,
        workers: Callable[..., Any] | Recruit | Carried,
        work: Callable[..., None],
        args: tuple[Any, ...],
        name: str = "PoolWorker",
        served: Preload | None = None,
    ) -> None:
        self.size, self.workers, self.work, self.args = size, workers, work, args
        self.name, self.served = name, served

    def but(self, **changes: Any) -> Crew:
        """Return a copy with other attributes."""
        made = Crew.__new__(Crew)
        vars(made).update(vars(self), **changes)
        return made


class _Post:
    """One slot, as the supervisor sees it."""

    process: Any = None
    pid = 0
    who = 0
    stopped_at = 0.0
    settled = False
    asked_at = 0.0
    condemned = False

    def __init__(self, slot: int, last_words: int) -> None:
        self.slot, self.last_words = slot, last_words

    @property
    def filled(self) -> bool:
        return self.pid != 0

    @property
    def stopped(self) -> bool:
        return self.stopped_at != 0


def supervise(table: _core.Table, channel: Channel, parent: int, crew: Crew) -> None:
    """Be the supervisor of `table`. Runs in a process of its own until the pool is over."""
    try:
        supervisor = Supervisor(table, channel, parent, crew)
    except Exception as error:
        _report(channel, "failed", error)
        return
    supervisor.run()


def _report(channel: Channel, kind: str, detail: object) -> None:
    """Tell the parent something that does not stand in the table."""
    try:
        message = pickle.dumps((kind, detail))
    except Exception:
        message = pickle.dumps((kind, RuntimeError(str(detail))))
    with contextlib.suppress(OSError):
        channel.send(message)


class Supervisor:
    """The state between two waits."""

    def __init__(self, table: _core.Table, channel: Channel, parent: int, crew: Crew) -> None:
        self.table, self.channel, self.parent, self.crew = table, channel, parent, crew
        self.words = _core.Supervisor(table)
        self.starts = Starts(crew.size)
        self.posts = [_Post(slot, _core.memory_file()) for slot in range(crew.size)]
        self.started = crew.numbers
        self.oom_kills = 0
        self.completed = 0
        self.completed_then = 0
        self.claims = 0
        self.orphaned = False
        self.strays = Strays()
        self.woken_at = time.monotonic()
        self.start_again_at = 0.0
        self.continued = self.paused = False
        self._prepare()

    # --- Setting up -----------------------------------------------------------------------

    def _prepare(self) -> None:
        for fd in range(3):
            # A daemon may have closed them; nothing else must get these numbers.
            try:
                os.fstat(fd)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
        _core.adopt_orphans()
        _crash_stack.begin()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # An event loop of the parent may have left its own descriptor here.
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        self.handlers = {
            _syscalls.SIGCHLD: _syscalls.set_handler(_syscalls.SIGCHLD, lambda *_: None),
            _syscalls.SIGCONT: _syscalls.set_handler(_syscalls.SIGCONT, self._on_continue),
        }
        _syscalls.block_all_but(self.handlers)
        self.watch = Watch(self.parent)
        self.desk = Desk()
        gc.freeze()

    def _on_continue(self, *_: object) -> None:
        self.continued = True

    def run(self) -> None:
        """Keep the crew at work until it is over."""
        try:
            self._take_over()
            self._fill_all()
        except Forked:
            raise
        except BaseException as error:
            self._end_workers(forced=True)
            _report(self.channel, "failed", error)
            return
        _report(self.channel, "started", None)
        self.oom_kills = _os.oom_kills()
        while not self._over():
            self._wait()
            self._resume()
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

    def _fill(self, post: _Post) -> None:
        try:
            self._start(post)
        except OSError as error:
            self.start_again_at = time.monotonic() + START_AGAIN
            others = any(each.filled for each in self.posts)
            self._give_up_if(self.starts.refused(others=others), f"cannot start a worker: {error}")
            return
        self._enter(post)

    def _start(self, post: _Post) -> None:
        number = self._draw()
        post.who = self.words.enlist(post.slot, number)
        os.ftruncate(post.last_words, 0)
        os.lseek(post.last_words, 0, os.SEEK_SET)
        self.started += 1
        # Programs ask `current_process()._identity` which worker they are in.
        identity = (*self.crew.identity, number)
        name = _identity.name_of(self.crew.name, identity)
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
        process.daemon = True
        with _syscalls.plain_fork():
            process.start()
        # Known to multiprocessing, it would be reaped by the next start, and not be seen to end.
        known: Any = mp_process
        known._children.discard(process)
        return process

    def _fork(self, post: _Post, carried: Carried, name: str, identity: tuple[int, ...]) -> Child:
        """Fork a worker that leaves these frames, and begins where this interpreter did."""
        supervisor = os.getpid()
        util._flush_std_streams()  # type: ignore[attr-defined]
        pid = _syscalls.fork()
        if pid:
            return Child(pid)
        global _place  # noqa: PLW0603 - one per process, set once
        try:
            _cut_ties(self, supervisor, post.last_words)
            if carried.method != "spawn":
                gc.unfreeze()
            # A spawned worker has nothing of the user's yet, and at its end the collector would
            # copy every page that it shares with this process.
            _place = (self.table, post.slot, post.who, self.started, post.last_words)
        except BaseException:
            sys.__excepthook__(*sys.exc_info())
            os._exit(1)
        run = partial(carried.run, name, identity, self.crew.mask, post.last_words)
        raise Forked(carried.method, run)

    def _draw(self) -> int:
        return _identity.draw(self.crew.counter) if self.crew.counter else self.started + 1

    def _enter(self, post: _Post) -> None:
        post.pid = post.process.pid
        post.settled = post.condemned = False
        post.stopped_at = post.asked_at = 0.0
        self.words.set_pid(post.slot, post.pid)

    def _give_up_if(self, hopeless: bool, why: str) -> None:
        if hopeless:
            _report(self.channel, "broken", why)
            self.words.give_up()

    def _replace(self) -> None:
        for post in self.posts:
            if self._may_start() and not post.filled and self._is_wanted():
                self._fill(post)

    def _may_start(self) -> bool:
        return not self.table.broken and time.monotonic() >= self.start_again_at

    def _is_wanted(self) -> bool:
        phase = self.table.phase
        return phase == RUNNING or (phase == CLOSING and self.table.waiting > 0)

    # --- Waiting --------------------------------------------------------------------------

    def _wait(self) -> None:
        limit = self._time_left()
        if limit is None:
            self.words.doze(True)
            limit = self._time_left()
        parent, desk = self.watch.fileno(), self.desk.fileno()
        if parent == NONE:
            limit = min(SLICE * 1000, SLICE * 1000 if limit is None else limit)
        ready = _core.poll([self.wake_read, self.channel.fileno(), parent, desk], limit)
        self.words.doze(False)
        if self.wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self.wake_read, 4096)
        if self.channel.fileno() in ready:
            self._hear()
        if desk in ready:
            self.desk.serve(self._is_known)
        if parent in ready or (parent == NONE and self.watch.has_ended()):
            self.orphaned = True

    def _is_known(self, pid: int) -> bool:
        """Whether a process is of this pool: what it has in memory, the others may have."""
        return pid in {os.getpid(), self.parent} or any(post.pid == pid for post in self.posts)

    def _resume(self) -> None:
        """Charge no task with the time that this process may have been stopped for."""
        now = time.monotonic()
        if self.continued:
            self.continued = False
            for post in self.posts:
                if post.filled and not post.stopped:
                    self._put_off(post, now - self.woken_at)
        self.woken_at = now

    def _put_off(self, post: _Post, seconds: float) -> None:
        self.words.put_off(post.slot, int(seconds * 1e9))
        post.asked_at = 0.0

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
        until_start = max(0.0, self.start_again_at - time.monotonic()) * 1000
        if any(not post.filled for post in self.posts) and self._is_wanted():
            late = self._time_to_the_late() if until_start else None
            return until_start if late is None else min(until_start, late)
        return self._time_to_the_late()

    def _time_to_the_late(self) -> float | None:
        if any(post.asked_at for post in self.posts):
            return DUMP_TIME * 1000 / 2
        if self.paused:
            return PAUSE * 1000
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
        # Ctrl-C may come before a worker is done with its initializer; that is no failed start.
        if _syscalls.was_sent(_syscalls.SIGINT):
            self.starts.succeeded()
        options = os.WNOHANG | os.WUNTRACED | os.WCONTINUED
        while True:
            try:
                pid, status = _syscalls.waitpid(-1, options)
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
        now = time.monotonic()
        if post.stopped and not stopped:
            self._put_off(post, now - post.stopped_at)
        post.stopped_at = now if stopped else 0.0
        self.words.set_stopped(sum(each.stopped for each in self.posts))

    def _bury(self, post: _Post, exitcode: int) -> None:
        info = self.table.slot(post.slot)
        held = self.words.held_by(post.who)
        in_order = exitcode == 0 and not held
        why = self._describe(post, exitcode)
        self._bury_children(post, violent=bool(held))
        _core.crash_point("supervisor.reaped")
        for cell in held:
            self._answer(cell, why)
        if post.stopped:
            self._note_stopped(post, stopped=False)
        self.completed += info["tasks"]
        pid, post.pid, post.process = post.pid, 0, None
        self.words.bury(post.slot, lost=not in_order, exitcode=exitcode)
        _core.ring_deaths()
        self._count_settled()
        if info["initialized"]:
            self.starts.succeeded()
        elif self.table.phase == RUNNING:
            text = why.stack or why.text
            why_not = f"worker {pid} died before its first task: {text}"
            self._give_up_if(self.starts.failed(), why_not)

    def _bury_children(self, post: _Post, *, violent: bool) -> None:
        crew = self._crew_pids()
        if violent:
            self.strays.end(crew, [post.pid])
        self.strays.end_daemons(self.table.children(post.slot))
        self.strays.spare(crew)

    def _crew_pids(self) -> set[int]:
        return {post.pid for post in self.posts if post.filled}

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
        _crash_stack.show(stack)
        stack = own_frames(stack, self.crew.work.__code__.co_filename)
        return Exit(post.pid, exitcode, by_oom, late=post.condemned, stack=stack)

    def _answer(self, cell: int, why: Exit) -> None:
        task = self.words.task(cell)
        again, attempts = fate(task, why)
        if again:
            self.words.requeue(cell, attempts)
        else:
            facts = {**why.facts, "timeout": task["timeout"] / 1e9}
            self.words.lose(cell, pickle.dumps(facts))

    # --- Deadlines ------------------------------------------------------------------------

    def _end_the_late(self) -> None:
        now = time.monotonic()
        self.paused = False
        for post in self.posts:
            if not post.filled or post.condemned:
                continue
            if not self.words.is_late(post.slot, post.who):
                post.asked_at = 0.0
            elif post.stopped and self._program_is_stopped():
                self.paused = True
            elif not post.asked_at:
                post.asked_at = now
                os.ftruncate(post.last_words, 0)
                os.lseek(post.last_words, 0, os.SEEK_SET)
                _os.kill_quietly(post.pid, DUMP_SIGNAL)
            elif now - post.asked_at >= DUMP_TIME:
                self._end_late(post)

    def _program_is_stopped(self) -> bool:
        seen = _os.look_at(self.parent)
        return seen is not None and seen.stopped

    def _end_late(self, post: _Post) -> None:
        """Stop the worker first: it may finish, and must not be killed in its next task."""
        post.asked_at = 0.0
        _os.kill_quietly(post.pid, signal.SIGSTOP)
        with contextlib.suppress(ChildProcessError):
            options = os.WSTOPPED | os.WEXITED | os.WNOWAIT
            _syscalls.waitid(os.P_PID, post.pid, options)
        if self.words.is_late(post.slot, post.who):
            post.condemned = True
            self.strays.spare(self._crew_pids())
            _os.kill_quietly(post.pid, signal.SIGKILL)
        else:
            _os.kill_quietly(post.pid, signal.SIGCONT)

    # --- The end --------------------------------------------------------------------------

    def tell(self, kind: str, detail: object) -> None:
        """Report to the parent what does not stand in the table."""
        _report(self.channel, kind, detail)

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
            self._end_workers(forced=self.watch.has_ended())

    def _end_workers(self, *, forced: bool) -> None:
        """End every worker, and what those of them that are in a task have started."""
        for post in self.posts:
            if post.process is not None and not hasattr(post.process, "_popen"):
                # A process type of the user's own, with its own way to end.
                post.process.terminate()
                post.process.join()
        slots = {
            post.process.pid: post.slot for post in self.posts if getattr(post.process, "pid", None)
        }
        end_workers(self, slots, forced=forced)


class Child:
    """A worker that was forked without a process object."""

    _popen: None = None

    def __init__(self, pid: int) -> None:
        self.pid = pid


_place: tuple[Any, ...] = ()


def at_work(work: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Work in the place that this process was forked for: the target of a `Recruit`."""
    begin_work(work.__code__)
    with _syscalls.quiet_interrupt():
        work(*_place, *args)


def _become_worker(
    supervisor: Supervisor, parent: int, slot: int, who: int, number: int, last_words: int
) -> None:
    """Run in a new worker that has a copy of the parent's memory."""
    _cut_ties(supervisor, parent, last_words)
    gc.unfreeze()
    # Code that asks for its parent means the process which made the pool.
    mine: Any = mp_process
    mine._parent_process = supervisor_parent()
    me: Any = mp_process.current_process()
    me._parent_pid, me._parent_name = supervisor.parent, mine._parent_process.name
    table, crew = supervisor.table, supervisor.crew
    supervisor.posts.clear()
    begin_work(crew.work.__code__)
    with _syscalls.quiet_interrupt():
        _syscalls.set_mask(crew.mask)
        crew.work(table, slot, who, number, last_words, *crew.args)


def _cut_ties(supervisor: Supervisor, parent: int, last_words: int) -> None:
    """Give up in a new worker what only the supervisor needs."""
    if not _core.die_with_parent(parent):
        os._exit(1)
    _syscalls.restore_fork()
    _syscalls.refresh_event_loop()
    signal.set_wakeup_fd(-1)
    for number, handler in supervisor.handlers.items():
        # None: not Python's own, and out of its reach.
        _syscalls.set_handler(number, _syscalls.SIG_DFL if handler is None else handler)
    for post in supervisor.posts:
        if post.last_words != last_words:
            os.close(post.last_words)
    for fd in (supervisor.wake_read, supervisor.wake_write):
        os.close(fd)
    supervisor.watch.close()
    supervisor.desk.sit_opposite()
    supervisor.channel.close()


def supervisor_parent() -> Any:
    """Return what `multiprocessing.parent_process` was in the supervisor."""
    return _PARENT


_PARENT: Any = None


def remember_parent() -> None:
    """Keep the supervisor's own parent process, for its workers."""
    global _PARENT  # noqa: PLW0603 - one per process, set once
    _PARENT = mp_process.parent_process()
