"""Run a scenario in a process and a session of its own, and look at what it leaves behind."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from waiting import becomes_true

from .registry import Row
from .system import TOKEN, describe, kill, marked, show_stacks

ROOT = Path(__file__).resolve().parents[len(__package__.split("."))]
LEFT_AFTER = 1.0
"""Seconds that what a scenario started may take to go, once the scenario's process has ended."""
_FOREIGN = ("sem.mp-", "sem.loky-", "joblib_memmapping_folder_")
"""What others make in /dev/shm; the semaphores of a scenario have its token in their names."""


@dataclass(frozen=True)
class Outcome:
    """What became of a scenario: ok, hangs, lost, wrong, missing, and in which words."""

    kind: str
    text: str = ""
    stderr: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


@dataclass(frozen=True)
class _Room:
    """The private surroundings of one run."""

    token: str
    temporary: Path
    report: Path
    stderr: Path
    shared: set[str]

    @classmethod
    def below(cls, folder: Path) -> _Room:
        temporary, report, stderr = (folder / name for name in ("tmp", "report", "stderr"))
        return cls(secrets.token_hex(8), temporary, report, stderr, _shared_files())


def environment(token: str, temporary: Path) -> dict[str, str]:
    """The environment of a scenario: modules importable, marked by the token, its own TMPDIR."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TMPDIR": str(temporary),
        "PYTHONFAULTHANDLER": "1",
        TOKEN: token,
    }


def command(module: str, method: str, *arguments: str) -> list[str]:
    """The command line that runs `child` with these arguments."""
    child = [sys.executable, "-m", f"{__package__}.child"]
    return [*child, "--module", module, "--method", method, *arguments]


def run(row: Row, module: str, method: str) -> Outcome:
    """Run a scenario, kill what is left of it, and say what became of it."""
    with tempfile.TemporaryDirectory(prefix="failures-") as folder:
        room = _Room.below(Path(folder))
        room.temporary.mkdir()
        try:
            outcome = _watch(row, module, method, room)
            return _leftovers(room) if outcome.kind == "ok" else outcome
        finally:
            _clean_up(room.token)


def _watch(row: Row, module: str, method: str, room: _Room) -> Outcome:
    arguments = ["--limit", str(row.limit), "--report", str(room.report), row.name]
    with room.stderr.open("wb") as stderr:
        process = subprocess.Popen(
            command(module, method, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            env=environment(room.token, room.temporary),
            start_new_session=True,
        )
        try:
            status = process.wait(row.limit + 1.0)
        except subprocess.TimeoutExpired:
            status = None
            show_stacks(room.token, stderr.fileno())
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return _outcome(room, status)


def _outcome(room: _Room, status: int | None) -> Outcome:
    stderr = room.stderr.read_text(errors="replace")[-20_000:]
    if room.report.exists():
        report = json.loads(room.report.read_text())
        if report["outcome"] != "ok":
            return Outcome(report["outcome"], report["text"], stderr)
        if status == 0:
            return Outcome("ok", "", stderr)
    where = "at interpreter exit" if room.report.exists() else ""
    if status is None:
        return Outcome("hangs", where, stderr)
    return Outcome("wrong", f"the process ended with {status} {where}".rstrip(), stderr)


def _leftovers(room: _Room) -> Outcome:
    becomes_true(lambda: not marked(room.token), LEFT_AFTER)
    if processes := marked(room.token):
        return Outcome("wrong", f"left behind: {'; '.join(map(describe, processes))}")
    if files := sorted(path.name for path in room.temporary.iterdir()):
        return Outcome("wrong", f"left behind in TMPDIR: {files}")
    becomes_true(lambda: not _new_shared_files(room), LEFT_AFTER)
    if shared := sorted(_new_shared_files(room)):
        return Outcome("wrong", f"left behind in /dev/shm: {shared}".replace(room.token, "TOKEN"))
    return Outcome("ok")


def _shared_files() -> set[str]:
    return set(os.listdir("/dev/shm"))


def _new_shared_files(room: _Room) -> set[str]:
    """New files in /dev/shm that may be ours: not a foreign name, and nobody has it mapped."""
    new = _shared_files() - room.shared
    ours = {name for name in new if room.token in name or not name.startswith(_FOREIGN)}
    mapped = _mapped_inodes() if ours else set()
    return {name for name in ours if _inode(name) not in mapped}


def _inode(name: str) -> int:
    try:
        return Path("/dev/shm", name).stat().st_ino
    except FileNotFoundError:
        return 0


def _mapped_inodes() -> set[int]:
    # By number, not by name: a semaphore is mapped before it gets its name.
    found = {0}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text().splitlines()
        except OSError:
            continue
        found |= {int(line.split()[4]) for line in lines if "/dev/shm/" in line}
    return found


def _clean_up(token: str) -> None:
    _kill(token)
    # The standard library's named semaphores stay when its resource tracker is killed.
    for path in Path("/dev/shm").glob(f"*{token}*"):
        path.unlink(missing_ok=True)


def _kill(token: str) -> None:
    # A process may start another one while we look, hence again until none is found.
    def kill_all() -> bool:
        found = marked(token)
        for pid in found:
            kill(pid)
        return not found

    becomes_true(kill_all, 5.0)
