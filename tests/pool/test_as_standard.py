"""Programs whose workers see and leave the same under garrison and under the standard library."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

METHODS = ["fork", "spawn", "forkserver"]
HEAD = "import LIBRARY as mp, os, sys, threading\n"


def output(library: str, method: str, text: str, folder: Path, *flags: str) -> str:
    """Run a program with one of the two libraries; return what it and its workers print."""
    script = folder / "a program.py"
    text = HEAD + textwrap.dedent(text)
    script.write_text(text.replace("LIBRARY", library).replace("METHOD", repr(method)))
    command = [sys.executable, *flags, str(script), "an argument"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


LIBRARIES = ("garrison", "multiprocessing")


def assert_same(method: str, text: str, folder: Path, *flags: str) -> str:
    ours, theirs = (output(each, method, text, folder, *flags) for each in LIBRARIES)
    assert ours == theirs
    assert ours
    return ours


@pytest.mark.parametrize("method", METHODS)
def test_globals_of_main_in_a_worker_are_as_in_the_standard_library(
    method: str, tmp_path: Path
) -> None:
    text = """
        STATE, LOCK, LOG = {}, threading.Lock(), open(os.devnull)
        def init(value):
            global extra
            STATE["model"], extra = value, value + 1
        def predict(x):
            with LOCK:
                return STATE["model"] * x + extra + (LOG.fileno() > 0)
        def count(_):
            STATE.setdefault("calls", []).append(1)
            return len(STATE["calls"])
        if __name__ == "__main__":
            with mp.get_context(METHOD).Pool(1, init, (10,)) as pool:
                print(pool.map(predict, [1, 2]), [pool.apply(count, (0,)) for _ in range(3)])
            print(STATE)
    """
    assert_same(method, text, tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_classes_of_main_come_back_as_themselves(method: str, tmp_path: Path) -> None:
    text = """
        import dataclasses, enum, typing, collections
        @dataclasses.dataclass
        class Point:
            x: int
        class Color(enum.Enum):
            RED = 1
        class Named(typing.NamedTuple):
            n: int
        class Sized(typing.Protocol):
            def size(self) -> int: ...
        class Cache:
            lock = threading.Lock()
            def size(self) -> int:
                with self.lock:
                    return 3
        class Mine(Exception):
            pass
        Pair = collections.namedtuple("Pair", "a b")
        def same(value):
            return value, type(value) in globals().values(), value is Color.RED
        def size(sized: Sized):
            return sized.size()
        def fail(n):
            raise Mine(n)
        if __name__ == "__main__":
            with mp.get_context(METHOD).Pool(1) as pool:
                values = [Point(1), Color.RED, Named(1), Pair(1, 2)]
                for value, back in zip(values, pool.map(same, values)):
                    print(back, value == back[0], type(back[0]) is type(value))
                print(pool.apply(size, (Cache(),)))
                try:
                    pool.apply(fail, (1,))
                except Mine as error:
                    print(repr(error))
    """
    assert_same(method, text, tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_sees_the_settings_that_a_standard_one_sees(method: str, tmp_path: Path) -> None:
    text = """
        import logging, warnings, random
        logging.basicConfig(level=logging.DEBUG, format="%(message)s in main")
        sys.setrecursionlimit(12345)
        warnings.simplefilter("error", FutureWarning)
        os.environ["SET_AT_IMPORT"] = "1"
        AT_IMPORT = mp.current_process().name.rpartition("-")[0], mp.parent_process() is None
        RANDOM = random.Random(5).random()
        def see(_):
            me, main = mp.current_process(), sys.modules["__main__"]
            parent = mp.parent_process()
            return {
                "method": mp.get_start_method(), "kind": type(me).__name__, "bases": [
                    base.__name__ for base in type(me).__mro__[-3:]],
                "name": me.name.rpartition("-")[0], "pid": me.pid == os.getpid() == me.ident,
                "at import": AT_IMPORT, "parent": (parent.name, parent.is_alive()),
                "random": RANDOM, "alive": me.is_alive(), "key": len(me.authkey),
                "main": (main.__name__, main.__file__, main is sys.modules["__mp_main__"]),
                "here": (__name__, see.__module__, globals()["see"] is see),
                "argv": sys.argv, "path": sys.path, "cwd": os.getcwd(), "flags": repr(sys.flags),
                "recursion": sys.getrecursionlimit(), "filters": repr(warnings.filters[:3]),
                "log": (logging.root.level, [h.formatter._fmt for h in logging.root.handlers]),
                "warn": sys.warnoptions, "environ": os.environ.get("SET_AT_IMPORT"),
                "optimized": __debug__, "threads": threading.active_count(),
                "main thread": threading.current_thread() is threading.main_thread(),
                "stdin": sys.stdin.read() if sys.stdin else None,
                "umask": os.umask(0o22), "affinity": sorted(os.sched_getaffinity(0)),
            }
        if __name__ == "__main__":
            mp.set_start_method(METHOD)
            os.chdir("/")
            mp.current_process().authkey = b"a key"
            with mp.Pool(1) as pool:
                for key, value in pool.apply(see, (0,)).items():
                    print(key, value)
    """
    assert_same(method, text, tmp_path, "-W", "ignore::ImportWarning", "-O")


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_ends_as_a_standard_one(method: str, tmp_path: Path) -> None:
    text = """
        import atexit
        from multiprocessing import util
        class Last:
            def __del__(self):
                os.write(1, b"deleted\\n")
        def say(text):
            os.write(1, text.encode() + b"\\n")
        def init(path):
            global file, last
            file, last = open(path, "w"), Last()
            file.write("not flushed")
            atexit.register(say, "exit function")
            util.Finalize(None, say, ("finalizer",), exitpriority=1)
            threading.Thread(target=say, args=("thread",)).start()
        def work(_):
            print("from a worker")
        if __name__ == "__main__":
            pool = mp.get_context(METHOD).Pool(1, init, ("its file",))
            pool.map(work, [1])
            pool.close()
            pool.join()
            print(open("its file").read())
    """
    ours, theirs = (output(each, method, text, tmp_path) for each in LIBRARIES)
    if method == "spawn" and sys.version_info >= (3, 14):
        # The standard library's worker leaves there what its main module's globals refer to.
        assert "deleted" not in theirs
        ours = ours.replace("deleted\n", "")
    assert ours == theirs


@pytest.mark.parametrize("method", METHODS)
def test_shared_memory_of_a_worker_survives_it(method: str, tmp_path: Path) -> None:
    text = """
        from multiprocessing import shared_memory
        def make(_):
            block = shared_memory.SharedMemory(create=True, size=10)
            block.buf[0] = 7
            block.close()
            return block.name
        if __name__ == "__main__":
            pool = mp.get_context(METHOD).Pool(1)
            # A tracker that the parent has started: under fork, workers share no other.
            shared_memory.SharedMemory(create=True, size=10).unlink()
            with mp.get_context(METHOD).Pool(1) as pool:
                name = pool.apply(make, (0,))
            block = shared_memory.SharedMemory(name)
            print(block.buf[0])
            block.close()
            block.unlink()
    """
    assert_same(method, text, tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_the_initializer(method: str, tmp_path: Path) -> None:
    text = """
        def init(*given):
            global lock, queue, end, value, event
            lock, queue, end, value, event = given
        def work(n):
            with lock:
                value.value += n
            queue.put(n)
            event.set()
            end.send(n)
        if __name__ == "__main__":
            ctx = mp.get_context(METHOD)
            here, there = ctx.Pipe()
            value, queue, event = ctx.Value("i"), ctx.Queue(), ctx.Event()
            shared = ctx.Lock(), queue, there, value, event
            with ctx.Pool(1, init, shared, maxtasksperchild=1) as pool:
                pool.map(work, [1, 2, 3], chunksize=1)
                print(value.value, [queue.get() for _ in range(3)], event.is_set())
                print([here.recv() for _ in range(3)])
    """
    assert_same(method, text, tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_process_classes_of_the_user(method: str, tmp_path: Path) -> None:
    text = """
        base = mp.get_context(METHOD).Process
        class Quiet(base):
            @property
            def daemon(self):
                return False
            @daemon.setter
            def daemon(self, value):
                pass
            def run(self):
                os.environ["RAN"] = "yes"
                super().run()
        class Context(type(mp.get_context(METHOD))):
            Process = Quiet
        def inner(n):
            return n + 1
        def outer(n):
            with mp.get_context(METHOD).Pool(1) as pool:
                kind = type(mp.current_process()).__name__
                return pool.apply(inner, (n,)), kind, os.environ["RAN"]
        if __name__ == "__main__":
            with mp.pool.Pool(1, context=Context()) as pool:
                print(pool.apply(outer, (1,)))
    """
    assert_same(method, "import LIBRARY.pool\n" + textwrap.dedent(text), tmp_path)
