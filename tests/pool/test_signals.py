"""Signals: what a program has set up reaches its workers, and breaks nothing of garrison's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from garrison.supervisor import _handle, _shutdown

METHODS = ["fork", "spawn", "forkserver"]

PROGRAM = """
import garrison, os, signal, sys, time

def state(_):
    handlers = {{name: signal.getsignal(getattr(signal, name)) for name in
        ("SIGINT", "SIGTERM", "SIGHUP", "SIGCHLD", "SIGPIPE", "SIGCONT", "SIGUSR1")}}
    shown = {{name: getattr(each, "__name__", str(each)) for name, each in handlers.items()}}
    ours = {{signal.SIGRTMAX - 5, signal.SIGRTMAX - 6}}  # docs/differences.md
    return shown, sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()) - ours)

def handler(*_):
    pass

{before}
if __name__ == "__main__":
    mp = {module}
    with mp.get_context("{method}").Pool(2) as pool:
        print(pool.map(state, [1])[0])
        pool.close()
        pool.join()
    print("joined")
"""

SETTINGS = {
    "nothing": "",
    "SIGPIPE": "signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
    "SIGCHLD blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})",
    "SIGCHLD ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "SIGCHLD handled": "signal.signal(signal.SIGCHLD, handler)",
    "SIGINT ignored": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "SIGTERM handled": "signal.signal(signal.SIGUSR1, handler)",
    "all blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "a timer": "signal.setitimer(signal.ITIMER_REAL, 1000)",
    "no streams": "sys.stdout.flush(); sys.stdin = sys.stderr = None",
}


HANGS = {"SIGCHLD blocked", "SIGCHLD ignored", "all blocked"}
"""Settings with which the standard library's fork server never answers."""


def run(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path.write_text(textwrap.dedent(text))
    command = [sys.executable, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("setting", SETTINGS)
def test_workers_have_the_programs_signals(method: str, tmp_path: Path, setting: str) -> None:
    shown = []
    alone = method == "forkserver" and setting in HANGS
    for module in ("garrison", "garrison" if alone else "__import__('multiprocessing')"):
        text = PROGRAM.format(before=SETTINGS[setting], module=module, method=method)
        done = run(tmp_path / "program.py", text)
        assert (done.returncode, done.stderr) == (0, "")
        shown.append(done.stdout)
    assert shown[0] == shown[1]
    assert shown[0].endswith("joined\n")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_program_may_have_closed_its_standard_descriptors(
    method: str, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    path = tmp_path / "result"
    text = f"""
        import garrison, os, sys
        if __name__ == "__main__":
            for fd in {closed}:
                os.close(fd)
            sys.stdin = sys.stdout = sys.stderr = None
            with garrison.get_context("{method}").Pool(2) as pool:
                got = pool.map(abs, [-1, -2])
                for fd in {closed}:
                    try:
                        os.write(fd, b"garbage" * 100)
                    except OSError:
                        pass
                got += pool.map(abs, [-3])
                pool.close()
                pool.join()
            open({str(path)!r}, "w").write(repr(got))
    """
    assert run(tmp_path / "program.py", text).returncode == 0
    assert path.read_text() == "[1, 2, 3]"


# --- SIGTERM -------------------------------------------------------------------------------------


def handle_term(path: str) -> None:
    def leave(*_: object) -> None:
        time.sleep(2 * _shutdown.SIGTERM_GRACE_S)
        Path(path).write_text("left in order")
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)


@pytest.mark.parametrize("busy", [False, True])
def test_sigterm_handler_of_a_worker_runs_to_its_end(
    context: Any, tmp_path: Path, busy: bool
) -> None:
    path = tmp_path / "left"
    with context.Pool(1, handle_term, (str(path),)) as pool:
        if busy:
            os.mkfifo(tmp_path / "ready")
            pool.apply_async(tell_and_wait, (tmp_path / "ready",))
            (tmp_path / "ready").read_text()
        else:
            pool.apply(abs, (1,))
        pool.terminate()
        pool.join()
    assert path.read_text() == "left in order"


def tell_and_wait(ready: Path) -> None:
    ready.write_text("ready")
    while True:  # in pieces: Python sleeps through a signal that came just before
        time.sleep(0.02)


def ignore_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def test_a_worker_that_ignores_sigterm_is_killed(context: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    with context.Pool(1, ignore_term) as pool:
        pool.apply_async(tell_and_wait, (tmp_path / "ready",))
        (tmp_path / "ready").read_text()
        worker = pool._pool[0]
        pool.terminate()
        assert worker.exitcode == -signal.SIGKILL


def test_a_worker_without_a_handler_ends_of_sigterm(context: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    with context.Pool(1) as pool:
        pool.apply_async(tell_and_wait, (tmp_path / "ready",))
        (tmp_path / "ready").read_text()
        worker = pool._pool[0]
        pool.terminate()
        assert worker.exitcode == -signal.SIGTERM


def test_the_parent_waits_as_long_as_the_supervisor() -> None:
    assert _handle.HANDLER_LIMIT_S > _shutdown.HANDLER_GRACE_S > _shutdown.SIGTERM_GRACE_S


def interrupt_myself() -> None:
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_of_one_worker_is_its_tasks_alone(context: Any) -> None:
    with context.Pool(1) as pool:
        pid = pool.apply(os.getpid)
        with pytest.raises(KeyboardInterrupt):
            pool.apply(interrupt_myself)
        os.kill(pid, signal.SIGINT)
        assert pool.apply(os.getpid) == pid
        assert pool.statistics().deaths == 0


def test_signals_to_the_whole_group_are_not_the_supervisors(method: str, tmp_path: Path) -> None:
    done = run(
        tmp_path / "program.py",
        f"""
        import garrison, os, signal
        if __name__ == "__main__":
            os.setpgrp()
            with garrison.get_context("{method}").Pool(2) as pool:
                before = pool.statistics().supervisor_pid
                for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                    signal.signal(number, lambda *_: None)
                    os.killpg(0, number)
                    assert pool.map(abs, [-1, -2]) == [1, 2]
                assert pool.statistics().supervisor_pid == before
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_interrupt_on_the_way_to_the_work_is_silent(method: str, tmp_path: Path) -> None:
    done = run(
        tmp_path / "program.py",
        f"""
        import garrison, os, signal, sys

        class Interrupting:
            "Closed on the way, by the process object."
            def close(self):
                try:
                    os.close(os.open({str(tmp_path / "once")!r}, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return
                os.kill(os.getpid(), signal.SIGINT)

        sys.stdin = Interrupting()
        if __name__ == "__main__":
            with garrison.get_context("{method}").Pool(2) as pool:
                print(pool.map(abs, range(4)))
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 1, 2, 3]\n", "")
    assert (tmp_path / "once").exists()


# --- faulthandler --------------------------------------------------------------------------------

CRASH = """
import faulthandler, garrison, os, signal, sys

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

{enable}
if __name__ == "__main__":
    with garrison.get_context("{method}").Pool(1) as pool:
        try:
            pool.apply(crash)
        except garrison.WorkerDied as error:
            print("crash" in error.stack)
"""
KNOWN = str(sys.version_info < (3, 14))
"""Whether it can be told that faulthandler writes on standard error."""
ENABLED = {
    "not": ("", "True", False),
    "on standard error": ("faulthandler.enable()", KNOWN, True),
    "for a log": ("log = open(sys.argv[0] + '.log', 'a'); faulthandler.enable(log)", "False", True),
}


@pytest.mark.parametrize("enabled", ENABLED)
def test_a_crash_is_shown_where_the_program_wants_it(
    tmp_path: Path, enabled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONFAULTHANDLER", raising=False)
    enable, in_error, shown = ENABLED[enabled]
    path = tmp_path / "program.py"
    done = run(path, CRASH.format(enable=enable, method="fork"))
    assert (done.returncode, done.stdout) == (0, f"{in_error}\n"), done.stderr
    log = path.with_name("program.py.log")
    text = log.read_text() if log.exists() else done.stderr
    assert ("Segmentation fault" in text) == shown
