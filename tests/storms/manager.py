"""A storm on a store: its clients and its server are killed at random moments.

``python -m storms.manager --kills 2000 [--seed N] [--place path|memory] [--seconds N]``, in the
folder `tests`.

Local and remote clients do transactions on several containers, claim items of a queue, and hold
locks. After every kill each transaction is there entirely or not at all, what was
acknowledged is there, and no lock stays taken. A server with a path is started again; without one
the clients on this machine go on, and the others learn that it is gone. At the end nothing is left.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from typing import Any

import garrison
from footprint import Footprint, put_mark
from waiting import becomes_true

from .board import LIFE, LOCKS, PATIENCE, SERVER_GONE, SLOTS, STOP, Board
from .clients import END, KEY, Part, Things, be
from .judge import Judge, Tally
from .places import InMemory, OnPath

PLACES: dict[str, Any] = {"path": OnPath, "memory": InMemory}
KINDS = ("local", "local", "local", "remote", "remote", "local listener", "remote listener")
"""The clients at any time."""
ERA = 50
"""Kills until all clients are told to leave, and the books are closed."""
PACE = 0.08
SERVER_SHARE = 0.12


class Storm:
    """One store, its clients, and who kills them."""

    def __init__(self, place: str, seed: int, folder: Path, tally: Tally) -> None:
        self._rng = random.Random(seed)
        self._tally, self._folder = tally, folder
        self._board = Board(folder / "board")
        self._place = PLACES[place](folder, self._rng)
        self._local = garrison.Lock(on_abandon="ignore")
        self._judge = Judge(self._board, tally, self._local)
        self._clients: dict[int, tuple[Part, Any]] = {}
        self._beats: dict[int, tuple[int, float]] = {}
        self._ident = 0
        self._containers = 0
        self._home: Things
        self._far: Things | None = None

    # -- an era -----------------------------------------------------------------------------------

    def era(self, kills: int, end: float) -> None:
        """Let clients work and kill so many processes, then look at everything in calm."""
        self._begin()
        self._server_dies_at = self._rng.randrange(kills // 3, kills) if kills > 3 else -1
        for number in range(kills):
            self._wait(self._rng.expovariate(1 / PACE))
            self._strike(number)
            if self._tally.wrong or time.monotonic() > end:
                break
        self._end()

    def _begin(self) -> None:
        self._board[STOP] = self._board[SERVER_GONE] = 0
        self._place.start()
        self._home = Things(self._place.manager)
        self._far = None
        if not self._containers or not self._place.survives:
            self._board.forget_loans()
            self._judge = Judge(self._board, self._tally, self._local)
            self._home.fill()
        self._containers = self._judge.check_room(self._home, self._containers)
        for kind in KINDS:
            self._add(kind)

    def _things(self) -> Things:
        """The store as the judge looks at it: now from here, now from another machine."""
        if self._board[SERVER_GONE] or self._rng.random() < 0.8:
            return self._home
        if self._far is None:
            self._far = Things(garrison.connect(self._place.address, KEY, direct=False))
        return self._far

    def _add(self, kind: str) -> None:
        """Start a client, forked from here or from a process that knows nothing yet."""
        slots = {part.slot for part, _ in self._clients.values()}
        slot = min(set(range(SLOTS)) - slots)
        self._ident += 1
        self._board.appoint(slot)
        method = self._rng.choice(["fork", "forkserver"])
        manager = None
        if self._board[SERVER_GONE]:
            method, manager = "fork", self._place.manager
        elif method == "fork" and kind == "local" and self._rng.random() < 0.5:
            manager = self._place.manager
        part = Part(
            self._ident,
            slot,
            self._rng.randrange(1 << 32),
            kind,
            self._place.address,
            str(self._folder),
            self._local,
            manager,
        )
        self._judge.expect(part)
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=be, args=(part,))
        process.start()
        self._clients[part.ident] = part, process
        self._beats[part.ident] = (-1, time.monotonic())

    def _wait(self, seconds: float) -> None:
        """Let them work, and see to it that they do."""
        end = time.monotonic() + seconds
        time.sleep(seconds)  # the moment of a kill is what is tried here
        for ident, (part, process) in list(self._clients.items()):
            beats = self._board.beats(part.slot)
            before, since = self._beats[ident]
            if beats[0] != before or part.kind.endswith("listener"):
                self._beats[ident] = beats[0], end
            elif end - since > PATIENCE and process.is_alive():
                self._give_up(part, process)

    def _give_up(self, part: Part, process: Any) -> None:
        """Have a process that hangs show where."""
        step = self._board.beats(part.slot)[1]
        self._judge.wrong(f"client {part.ident} ({part.kind}) hangs in step {step}")
        os.kill(process.pid, signal.SIGABRT)
        process.join()

    # -- the executioner --------------------------------------------------------------------------

    def _strike(self, number: int) -> None:
        if self._place.survives and self._rng.random() < SERVER_SHARE:
            self._kill_server()
        elif not self._place.survives and number == self._server_dies_at:
            self._lose_server()
        else:
            self._kill_clients(2 if self._rng.random() < 0.1 else 1)

    def _kill_server(self) -> None:
        self._board[LIFE] += 1
        self._place.kill()
        self._board[LIFE] += 1
        self._tally.kills["server"] += 1
        self._place.start()
        self._judge.check(self._things(), ())
        self._judge.take_locks(self._things(), range(LOCKS))
        self._judge.call(self._things())

    def _lose_server(self) -> None:
        slots = [part.slot for part, _ in self._clients.values() if not part.is_remote]
        if not becomes_true(lambda: all(self._board.beats(slot)[0] for slot in slots)):
            self._judge.wrong("a client on this machine does not find its server")
        self._board[SERVER_GONE] = 1
        self._place.kill()
        self._tally.kills["server"] += 1
        self._judge.check(self._home, ())

    def _kill_clients(self, count: int) -> None:
        idents = self._rng.sample(sorted(self._clients), count)
        held = set()
        for ident in idents:
            pid = self._clients[ident][1].pid
            held |= {n for n in range(LOCKS + 1) if self._board.holder(n) == pid}
            with contextlib.suppress(ProcessLookupError):  # it has ended, and said why
                os.kill(pid, signal.SIGKILL)
        kinds = [self._bury(ident) for ident in idents]
        self._tally.kills.update(kinds)
        self._judge.check(self._things(), idents)
        self._judge.take_locks(self._things(), held)
        for kind in kinds:
            gone = self._board[SERVER_GONE]
            self._add(kind.replace("remote", "local") if gone else kind)
        self._judge.call(self._things())

    def kill_all(self) -> None:
        """Leave nobody, if it ends with an error."""
        for ident in list(self._clients):
            self._clients[ident][1].kill()
            self._bury(ident)

    def _bury(self, ident: int) -> str:
        part, process = self._clients.pop(ident)
        process.join()
        process.close()
        return part.kind

    # -- calm -------------------------------------------------------------------------------------

    def _end(self) -> None:
        self._board[STOP] = 1
        self._home.calls.put_many([END] * len(self._clients))
        idents = list(self._clients)
        for ident in idents:
            part, process = self._clients[ident]
            process.join(PATIENCE)
            if process.is_alive():
                self._give_up(part, process)
            elif process.exitcode:
                self._judge.wrong(f"client {ident} has ended with {process.exitcode}")
            self._bury(ident)
        self._judge.check(self._home, idents)
        self._judge.take_locks(self._home, range(LOCKS + 1))
        self._judge.check_orders(self._home)
        for waiting in (self._home.calls, self._home.answers):
            while not waiting.empty():
                waiting.get()
        if not self._tally.wrong:
            self._judge.check_room(self._home, self._containers)
        del self._home
        self._far = None
        self._place.stop()


def storm(place: str, kills: int, seed: int, seconds: float) -> Tally:
    """Let clients work and kill until all kills are done, or the time is over."""
    tally = Tally()
    end = time.monotonic() + seconds
    folder = Path(tempfile.mkdtemp(prefix="storm-"))
    made = Storm(place, seed, folder, tally)
    try:
        while tally.kills.total() < kills and not tally.wrong and time.monotonic() < end:
            made.era(min(ERA, kills - tally.kills.total()), end)
    finally:
        made.kill_all()
        shutil.rmtree(folder)
    return tally


def left_since(before: Footprint, mark: int, seconds: float) -> list[str]:
    """What is still there when it has had its time to go."""

    def left() -> list[str]:
        gc.collect()
        return Footprint(mark).taken_since(before)

    server: Any = forkserver._forkserver
    tracker: Any = resource_tracker._resource_tracker
    server._stop()
    tracker._stop()
    becomes_true(lambda: not left(), seconds)
    return left()


def main() -> int:
    """Run a storm and say what came of it; the status is 1 if anything is wrong or left."""
    given = _arguments()
    mark = put_mark()
    util.get_temp_dir()  # the standard library's own, and its to remove
    temporary = tempfile.tempdir = tempfile.mkdtemp(prefix="storm-")
    os.environ["TMPDIR"] = temporary
    multiprocessing.set_forkserver_preload(["garrison.managers", f"{__package__}.clients"])
    warm_up()
    faulthandler.dump_traceback_later(given.seconds + 4 * PATIENCE, exit=True)
    before, seed = Footprint(mark), given.seed
    status = 0
    for place in given.place:
        faulthandler.dump_traceback_later(given.seconds + 4 * PATIENCE, exit=True)
        begin = time.monotonic()
        _say(f"seed {seed}, place {place}")
        tally = storm(place, given.kills // len(given.place), seed, given.seconds)
        warm_up()  # who opens a store sweeps up after those who were killed while they did so
        tally.wrong += [f"left behind: {each}" for each in left_since(before, mark, 10.0)]
        tally.wrong += [f"left behind: {each}" for each in os.listdir(temporary)]
        _report(tally, time.monotonic() - begin)
        status |= not tally.is_clean
        faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(temporary)
    return status


def warm_up() -> None:
    """Have what a process keeps from its first use on."""
    with garrison.Manager() as manager, garrison.Lock():
        manager.dict(a=1)
        manager.Lock("warm").locked()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--seconds", type=float, default=3600.0, help="at most, for each place")
    parser.add_argument("--place", choices=list(PLACES), nargs="+", default=list(PLACES))
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _report(tally: Tally, seconds: float) -> None:
    kills = ", ".join(f"{count} of {victim}s" for victim, count in sorted(tally.kills.items()))
    done = ", ".join(f"{count} {what}" for what, count in sorted(tally.done.items()))
    _say(f"kills: {tally.kills.total()} ({kills}) in {seconds:.1f} s")
    _say(f"done: {done}")
    _say(f"wrong: {len(tally.wrong)}")
    for text in tally.wrong[:20]:
        _say(f"  {text}")


if __name__ == "__main__":
    sys.exit(main())
