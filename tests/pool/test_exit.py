"""Interpreter exit with a live pool, and pools that are used on the way out."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

METHODS = ["fork", "spawn", "forkserver"]


def run(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments, "-c", textwrap.dedent(text)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("state", ["idle", "busy", "closed", "half read"])
def test_a_program_may_end_with_a_live_pool(method: str, state: str) -> None:
    steps = {
        "idle": "pool.apply(abs, (-1,))",
        "busy": "results = [pool.apply_async(signal.pause) for _ in range(5)]",
        "closed": "pool.apply_async(signal.pause); pool.close()",
        "half read": "results = pool.imap(abs, itertools.count()); next(results)",
    }
    done = run(f"""
        import garrison, itertools, signal
        pool = garrison.get_context("{method}").Pool(1)
        {steps[state]}
        print("ends")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")


def test_a_pool_in_a_cycle_ends_with_the_program() -> None:
    done = run("""
        import garrison
        class Owner:
            def __init__(self):
                self.pool, self.me = garrison.Pool(1), self
        Owner().pool.apply(abs, (-1,))
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_warning_is_shown_where_warnings_are() -> None:
    done = run("import garrison; pool = garrison.Pool(1); del pool", "-W", "default")
    assert done.returncode == 0
    assert "ResourceWarning: unclosed running multiprocessing pool <Pool 1 worker" in done.stderr


@pytest.mark.parametrize("kind", ["Pool", "ThreadPool"])
@pytest.mark.parametrize("keeper", ["os", "builtins", "sys"])
def test_an_iterator_that_goes_last_is_silent(kind: str, keeper: str) -> None:
    done = run(f"""
        import builtins, garrison.pool, itertools, os, sys
        results = garrison.pool.{kind}(1).imap(abs, itertools.count())
        print(next(results))
        {keeper}.kept = results
        del results
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_an_exit_handler_may_use_a_pool() -> None:
    done = run("""
        import atexit, garrison
        pool = garrison.Pool(1)
        atexit.register(lambda: print(pool.map(abs, [-1, -2])))
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2]\n", "")


def test_an_exit_handler_that_comes_too_late_gets_an_error() -> None:
    done = run("""
        import atexit
        def use():
            try:
                print(pool.map(abs, [-1, -2]))
            except garrison.GarrisonError as error:
                print(type(error).__name__)
        atexit.register(use)
        import garrison
        pool = garrison.Pool(1)
    """)
    assert done.returncode == 0
    assert done.stdout in {"[1, 2]\n", "PoolClosed\n", "PoolTerminated\n"}, done.stderr
    assert done.stderr == ""


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 2), reason="no process can be forked in exit handlers"
)
def test_an_exit_handler_may_make_a_pool() -> None:
    done = run("""
        import atexit, garrison
        def use():
            with garrison.Pool(1) as pool:
                print(pool.map(abs, [-1, -2]))
        atexit.register(use)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1, 2]\n", "")


def test_del_may_terminate_its_pool() -> None:
    done = run("""
        import garrison
        class Owner:
            def __init__(self):
                self.pool = garrison.Pool(1)
            def __del__(self):
                self.pool.terminate()
                self.pool.join()
                print("ended")
        one = Owner()
        print(one.pool.apply(abs, (-1,)))
        del one
        two = Owner()
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1\nended\nended\n"


def test_callbacks_are_called_before_join_returns() -> None:
    done = run("""
        import garrison
        pool = garrison.Pool(2)
        for n in range(100):
            pool.apply_async(abs, (n,), callback=print)
        pool.close()
        pool.join()
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(map(int, done.stdout.split())) == list(range(100))


def test_pending_callbacks_do_not_hold_up_the_end() -> None:
    done = run("""
        import garrison, signal
        pool = garrison.Pool(1)
        result = pool.apply_async(signal.pause, callback=print, error_callback=print)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("method", METHODS)
def test_what_workers_print_comes_once(method: str, tmp_path: Path) -> None:
    # Text that is in a buffer when a process forks must not be written twice.
    program = tmp_path / "program.py"
    program.write_text(f"""
import garrison
print("before")
with garrison.get_context("{method}").Pool(1) as pool:
    pool.map(print, ["in a worker"])
    pool.close()
    pool.join()
print("after")
""")
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == ["after", "before", "in a worker"]


def test_sys_exit_with_a_live_pool_keeps_its_code() -> None:
    done = run("""
        import garrison, signal, sys
        pool = garrison.Pool(1)
        result = pool.apply_async(signal.pause)
        sys.exit(7)
    """)
    assert (done.returncode, done.stderr) == (7, "")


def test_an_exception_with_a_live_pool_is_shown() -> None:
    done = run("""
        import garrison, signal
        with garrison.Pool(1) as pool:
            result = pool.apply_async(signal.pause)
            raise LookupError("shown")
    """)
    assert done.returncode == 1
    assert done.stderr.endswith("LookupError: shown\n")


NOTHING_UNCLOSED = """
import sys, garrison
if __name__ == "__main__":
    garrison.set_start_method(sys.argv[1])
    for end in ("close", "terminate"):
        pool = garrison.Pool(2)
        assert pool.map(abs, [-1]) == [1]
        getattr(pool, end)()
        pool.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_no_process_of_a_pool_warns_of_what_it_has_not_closed(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(NOTHING_UNCLOSED, encoding="utf-8")
    command = [sys.executable, "-W", "always::ResourceWarning", str(program), method]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
