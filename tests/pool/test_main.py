"""What a program, a prompt or standard input defines in ``__main__`` works in a pool."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

# A blank line ends each block, and there is none within: a prompt can take it as well.
DEFINITIONS = """\
import collections, dataclasses, enum, functools, math, sys
import garrison

print("begins")
state, calls, factor = None, 0, 2

def remember(value):
    global state
    state = value

def recall(_=None):
    return state

def count():
    global calls
    calls += 1
    return calls

def square(n):
    return n * n

def area(r):
    return math.pi * square(r)

def scale(n):
    return factor * n

class Base:
    kind = "base"
    def __init__(self, x):
        self.x = x

class Point(Base):
    def __init__(self, x):
        super().__init__(x)
    def moved(self, by):
        return type(self)(self.x + by)
    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Item:
    name: str

Pair = collections.namedtuple("Pair", "a b")

class Problem(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code

def raise_problem(code):
    raise Problem(code)

def problem_of(pool, code):
    try:
        pool.apply(raise_problem, (code,))
    except Problem as problem:
        return problem.code

def is_point(value):
    return isinstance(value, Point) and isinstance(value, Base)

def is_red(color):
    return color is Color.RED

def make_point(x):
    return Point(x)

"""
USE = """\
pool = garrison.get_context("METHOD").Pool(1, remember, (7,))
assert pool.map(square, range(4)) == [0, 1, 4, 9]
assert pool.map(lambda n: square(n) + 1, range(3)) == [1, 2, 5]
assert pool.apply(area, (2,)) == math.pi * 4
assert pool.map(recall, range(2)) == [7, 7]
assert pool.map(lambda _: state, range(2)) == [7, 7]
assert [pool.apply(count) for _ in range(3)] == [1, 2, 3]
assert (state, calls) == (None, 0)
assert pool.map(make_point, [1, 2]) == [Point(1), Point(2)]
assert pool.map(Point, [1, 2]) == [Point(1), Point(2)]
assert pool.map(Point(1).moved, [1, 2]) == [Point(2), Point(3)]
assert pool.map(functools.partial(Point.moved, Point(1)), [1]) == [Point(2)]
assert pool.apply(is_point, (Point(1),)) and pool.apply(lambda p: is_point(p), (Point(1),))
assert pool.apply(lambda p: isinstance(p, Point), (pool.apply(make_point, (1,)),))
assert pool.apply(type, (Point(1),)) is Point
assert pool.apply(is_red, (Color.RED,)) and pool.apply(lambda: Color.RED) is Color.RED
assert pool.apply(lambda item: item, (Item("a"),)) == Item("a")
assert type(pool.apply(lambda: Pair(1, 2))) is Pair
assert problem_of(pool, 5) == 5
assert next(pool.imap(make_point, [4])).x == 4
"""
AFTERWARDS = """\
def cube(n):
    return n ** 3

assert pool.map(cube, [2]) == [8]
def square(n):
    return -n

assert pool.map(square, [2]) == [-2]
assert pool.map(lambda n: square(n), [2]) == [-2]
double = lambda n: factor * n
assert pool.apply(double, (3,)) == 6
factor = 5
assert pool.apply(double, (3,)) == 15
class Point(Base):
    tag = "new"

class Later:
    pass

assert pool.apply(lambda: Point(3)).tag == "new"
assert pool.apply(lambda: Point(3).tag) == "new"
assert isinstance(pool.apply(lambda: Point(3)), Point)
assert pool.apply(lambda later: isinstance(later, Later), (Later(),))
assert type(pool.apply(Later)) is Later
"""
END = """\
pool.close()
pool.join()
print("ends")
"""


def as_file(text: str, folder: Path) -> tuple[list[str], str]:
    (folder / "program.py").write_text(text)
    return [str(folder / "program.py")], ""


def as_module(text: str, folder: Path) -> tuple[list[str], str]:
    (folder / "program.py").write_text(text)
    return ["-m", "program"], ""


def as_input(text: str, _folder: Path) -> tuple[list[str], str]:
    return ["-"], text


def as_option(text: str, _folder: Path) -> tuple[list[str], str]:
    return ["-c", text], ""


def at_a_prompt(text: str, _folder: Path) -> tuple[list[str], str]:
    return ["-i", "-q"], text


Way = Callable[[str, Path], "tuple[list[str], str]"]
WAYS: list[Way] = [as_file, as_module, as_input, as_option, at_a_prompt]
CASES = [(way, "spawn") for way in WAYS]
CASES += [(way, method) for way in (as_file, at_a_prompt) for method in ("fork", "forkserver")]


def run(way: Way, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments, typed = way(text, folder)
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, input=typed, cwd=folder, capture_output=True, text=True, check=False
    )


def assert_ran_once(done: subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout.replace(">>> ", "").split() == ["begins", "ends"], done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(("way", "method"), CASES)
def test_a_program_without_a_guard(way: Way, method: str, tmp_path: Path) -> None:
    text = DEFINITIONS + USE.replace("METHOD", method) + AFTERWARDS + END
    assert_ran_once(run(way, text, tmp_path))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_guarded_program_runs_once(method: str, tmp_path: Path) -> None:
    # What stands outside of the guard runs in each worker, as everywhere.
    begin, end = 'print("begins")\n', END
    body = textwrap.indent(begin + USE.replace("METHOD", method) + end, "    ")
    text = f"{DEFINITIONS.replace(begin, '')}if __name__ == '__main__':\n{body}"
    assert_ran_once(run(as_file, text, tmp_path))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_global_of_main_has_its_value_at_the_call(method: str, tmp_path: Path) -> None:
    text = f"""
import garrison
print("begins")
pool = garrison.get_context("{method}").Pool(1)
settings = {{"a": 1}}
read = lambda: settings["a"]
assert pool.apply(read) == 1
settings["a"] = 2
assert pool.apply(read) == 2
settings = {{"a": 3}}
assert pool.apply(read) == 3
assert pool.apply(lambda: settings.update(a=9) or settings["a"]) == 9
assert settings == {{"a": 3}}
"""
    assert_ran_once(run(as_file, text + END, tmp_path))


def test_two_functions_of_one_name(tmp_path: Path) -> None:
    text = """
import garrison
print("begins")
def make(n):
    def function():
        return n
    return function
one, two = make(1), make(2)
pool = garrison.get_context("fork").Pool(1)
assert [pool.apply(one), pool.apply(two), pool.apply(one)] == [1, 2, 1]
def function():
    return 0
old = function
def function():
    return 1
assert [pool.apply(old), pool.apply(function), pool.apply(old)] == [0, 1, 0]
"""
    assert_ran_once(run(as_file, text + END, tmp_path))


def test_a_death_names_a_function_of_main(tmp_path: Path) -> None:
    text = """
import garrison, os
print("begins")
def fatal(n):
    os._exit(n)
pool = garrison.get_context("spawn").Pool(1)
try:
    pool.map(fatal, [3])
except garrison.WorkerDied as error:
    assert error.task == "fatal(3)", error.task
else:
    raise AssertionError
"""
    assert_ran_once(run(as_file, text + END, tmp_path))
