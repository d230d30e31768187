"""Containers: the program is process 1, and process ids are used again after a short while."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from waiting import becomes_true

from . import tasks
from .registry import row
from .subject import Missing, Subject, check, same
from .system import descendants_of, describe, state_of
from .victims import Victim

OWN_PID_MAX = (6, 14)
"""The kernel since which every pid namespace has a largest pid of its own."""


def _unshare() -> list[str]:
    """The command that makes the program process 1 of a pid namespace of its own."""
    return unshared("--pid", "--fork", "--kill-child", "--mount-proc")


def unshared(*options: str) -> list[str]:
    """The command that gives a program namespaces of its own."""
    words = ["unshare", *options]
    if os.geteuid():
        words += ["--user", "--map-root-user"]
    if shutil.which("unshare") is None:
        message = "the command unshare"
        raise Missing(message)
    if subprocess.run([*words, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        message = f"the right to make namespaces ({options[0]})"
        raise Missing(message)
    return words


@row(
    "the program is process 1 of a container, tasks leave orphans: zombies",
    source="#49",
    limit=20.0,
)
def process_one(subject: Subject) -> None:
    with Victim(subject, be_process_one, wrapper=_unshare()) as victim:
        same(victim.line(), "ok")
        same(victim.ended(), 0)


def be_process_one(subject: Subject) -> None:
    """Use a pool whose tasks leave orphans, and whose workers die; count zombies."""
    same(os.getpid(), 1)
    with subject.pool() as pool:
        for _ in range(5):
            same(subject.value(pool.apply_async(leave_an_orphan)), 0)
        gone = becomes_true(lambda: not _zombies(), 2.0)
        check(gone, f"zombies: {[describe(pid) for pid in _zombies()]}")
        if subject.is_garrison:
            subject.death(pool.apply_async(tasks.die, ("SIGKILL",)))
        subject.still_works(pool)
        subject.finish(pool)
    Victim.say("ok")


def leave_an_orphan() -> int:
    """Let a child start a process and end before it: nobody's child is left for process 1."""
    return subprocess.run(["sh", "-c", "sh -c 'exit 0' & exit 0"], check=False).returncode


def _zombies() -> list[int]:
    return [pid for pid in descendants_of(os.getpid()) if state_of(pid) == "Z"]


@row("process ids are used again (largest pid 340)", source="#52", limit=40.0, fine=["*"])
def reused_pids(subject: Subject) -> None:
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    if release < OWN_PID_MAX:
        message = f"Linux {OWN_PID_MAX[0]}.{OWN_PID_MAX[1]}, where a namespace has its own pid_max"
        raise Missing(message)
    with Victim(subject, reuse_pids, wrapper=_unshare()) as victim:
        same(victim.line(), "ok")
        same(victim.ended(30.0), 0)


def reuse_pids(subject: Subject) -> None:
    """Use up the pids of a small namespace, again and again, with a pool that recycles."""
    Path("/proc/sys/kernel/pid_max").write_text("340")
    _use_up(300)
    pids: list[Any] = []
    with subject.pool(maxtasksperchild=1) as pool:
        for _ in range(20 if subject.method == "fork" else 5):
            results = [pool.apply_async(os.getpid) for _ in range(8)]
            pids += [subject.value(result) for result in results]
            _use_up(5)
        subject.finish(pool)
    check(subject.method != "fork" or len(set(pids)) < len(pids), "no pid was used twice")
    Victim.say("ok")


def _use_up(count: int) -> None:
    for _ in range(count):
        if not (pid := os.fork()):
            os._exit(0)
        os.waitpid(pid, 0)
