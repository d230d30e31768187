"""The fork server of a program: one for all pools, replaced when it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from garrison import _os
from garrison._os.process_watch import wait_for_exit

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, text: str) -> str:
    script = folder / "program.py"
    script.write_text("import garrison, os, sys\n" + textwrap.dedent(text))
    environment = {**os.environ, "TMPDIR": str(folder / "temporary")}
    (folder / "temporary").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def server_of(pool: Any) -> int:
    supervisor = _os.process_status(pool.statistics().supervisor_pid)
    assert supervisor is not None
    return supervisor.parent


def pool_of_one() -> Any:
    return garrison.get_context("forkserver").Pool(1)


def test_pools_of_a_program_have_one_server() -> None:
    with pool_of_one() as first, pool_of_one() as second:
        assert server_of(first) == server_of(second) != os.getpid()
        assert first.apply(abs, (-1,)) == second.apply(abs, (-1,)) == 1


def test_killed_server_is_replaced_and_its_pools_go_on() -> None:
    with pool_of_one() as first:
        server = server_of(first)
        os.kill(server, signal.SIGKILL)
        assert wait_for_exit(server, 10)
        assert first.apply(abs, (-1,)) == 1
        with pool_of_one() as second:
            assert second.apply(abs, (-1,)) == 1
            assert server_of(second) != server


def test_program_that_ends_by_sigpipe_outlives_its_server(tmp_path: Path) -> None:
    text = """
        import select, signal
        if __name__ == "__main__":
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            context = garrison.get_context("forkserver")
            with context.Pool(1) as first:
                supervisor = first.statistics().supervisor_pid
                server = int(open(f"/proc/{supervisor}/stat").read().rpartition(")")[2].split()[1])
                gone = os.pidfd_open(server)
                os.kill(server, signal.SIGKILL)
                select.select([gone], [], [])
                with context.Pool(1) as second:
                    print(first.apply(abs, (-1,)), second.apply(abs, (-2,)))
    """
    assert run(tmp_path, text) == "1 2\n"


def test_killed_supervisor_has_a_successor() -> None:
    with pool_of_one() as pool:
        supervisor = pool.statistics().supervisor_pid
        os.kill(supervisor, signal.SIGKILL)
        assert wait_for_exit(supervisor, 10)
        assert pool.apply(abs, (-1,)) == 1
        assert pool.statistics().supervisors_lost == 1


def test_more_descriptors_than_one_message_takes() -> None:
    context = garrison.get_context("forkserver")
    ends = [end for _ in range(130) for end in context.Pipe()]
    with context.Pool(1, keep, (ends,)) as pool:
        assert pool.apply(count) == 260
        ends[0].send("a word")
        assert pool.apply(hear) == "a word"
    for end in ends:
        end.close()


def keep(ends: list[Any]) -> None:
    kept[:] = ends


def count() -> int:
    return len({end.fileno() for end in kept})


def hear() -> Any:
    return kept[1].recv()


kept: list[Any] = []


def test_modules_are_preloaded_once(tmp_path: Path) -> None:
    (tmp_path / "noted.py").write_text("import os\nos.write(1, b'imported\\n')\n")
    text = """
        context = garrison.get_context("forkserver")
        def work(_):
            return "noted" in sys.modules
        if __name__ == "__main__":
            garrison.set_forkserver_preload(["noted"])
            for _ in range(3):
                with context.Pool(2) as pool:
                    assert pool.map(work, range(4)) == [True] * 4
    """
    assert run(tmp_path, text) == "imported\n"


def test_preload_that_changes_starts_another_server(tmp_path: Path) -> None:
    (tmp_path / "noted.py").write_text("")
    text = """
        context = garrison.get_context("forkserver")
        def work(_):
            return "noted" in sys.modules
        if __name__ == "__main__":
            for names in [], ["noted"], []:
                garrison.set_forkserver_preload(names)
                with context.Pool(1) as pool:
                    print(pool.map(work, [0]))
    """
    assert run(tmp_path, text).split() == ["[False]", "[True]", "[False]"]


def test_child_that_was_forked_has_a_server_of_its_own(tmp_path: Path) -> None:
    text = """
        context = garrison.get_context("forkserver")
        def cycle():
            with context.Pool(1) as pool:
                return pool.apply(abs, (-1,))
        if __name__ == "__main__":
            print(cycle(), flush=True)
            pid = os.fork()
            if not pid:
                print(cycle(), flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
            print(cycle())
    """
    assert run(tmp_path, text) == "1\n1\n1\n"


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_server_ends_with_the_program(end: str, tmp_path: Path) -> None:
    text = f"""
        context = garrison.get_context("forkserver")
        if __name__ == "__main__":
            pool = context.Pool(1)
            pool.apply(abs, (-1,))
            supervisor = pool.statistics().supervisor_pid
            print(garrison._os.process_status(supervisor).parent, supervisor, flush=True)
            {end}
    """
    server, supervisor = map(int, run(tmp_path, text).split())
    assert wait_for_exit(server, 10)
    assert wait_for_exit(supervisor, 10)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_worker_has_the_signals_of_the_program(tmp_path: Path) -> None:
    text = """
        import signal
        context = garrison.get_context("forkserver")
        def see(_):
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            handlers = [signal.getsignal(each) for each in (signal.SIGCHLD, signal.SIGINT)]
            return sorted(mask), handlers == [signal.SIG_DFL, signal.default_int_handler]
        if __name__ == "__main__":
            for blocked in [], [signal.SIGUSR1]:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
                with context.Pool(1) as pool:
                    print(pool.map(see, [0]))
    """
    first, second = run(tmp_path, text).splitlines()
    assert (first, second) == ("[([], True)]", "[([<Signals.SIGUSR1: 10>], True)]")
