"""Functions of all kinds, over every engine; those of a program's ``__main__`` too."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import garrison

from . import tasks

if TYPE_CHECKING:
    from .subjects import Subject

TESTS = Path(__file__).parent.parent


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, n: int) -> int:
        return n * self.factor

    def method(self, n: int) -> int:
        return n * self.factor

    @classmethod
    def of_class(cls, n: int) -> int:
        return cls(3).method(n)

    @staticmethod
    def static(n: int) -> int:
        return n + 1


def closure(factor: int) -> Any:
    return lambda n: n * factor


def recursive() -> Any:
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    return factorial


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (abs, [1, 2]),
        (tasks.square, [1, 4]),
        (lambda n: n + 1, [2, 3]),
        (closure(5), [5, 10]),
        (recursive(), [1, 2]),
        (functools.partial(tasks.add, 10), [11, 12]),
        (functools.partial(lambda a, b: a - b, 10), [9, 8]),
        (Scale(3), [3, 6]),
        (Scale(4).method, [4, 8]),
        (Scale.of_class, [3, 6]),
        (Scale.static, [2, 3]),
        (str, ["1", "2"]),
        ("{}!".format, ["1!", "2!"]),
        (functools.lru_cache(closure(2)), [2, 4]),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_function_of_any_kind(pool: garrison.Pool, function: Any, expected: list[Any]) -> None:
    assert pool.map(function, [1, 2]) == expected
    assert list(pool.imap(function, [1, 2])) == expected
    assert pool.apply(function, (2,)) == expected[1]


def test_function_that_is_defined_again_is_the_new_one(pool: garrison.Pool) -> None:
    found = []
    for step in range(3):
        space: dict[str, Any] = {}
        exec(f"def step(n): return n + {step}", space)
        found.append(pool.map(space["step"], [0, 10]))
    assert found == [[0, 10], [1, 11], [2, 12]]


def test_class_of_a_function_is_the_programs_own_in_results(pool: garrison.Pool) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    (first, second) = pool.map(Point, [1, 2])
    assert type(first) is type(second) is Point
    assert [first.x, second.x] == [1, 2]
    assert pool.apply(lambda point: point.x, (Point(7),)) == 7


@pytest.mark.needs("extensions")
def test_pool_inside_of_a_task_is_of_processes_or_the_like(pool: garrison.Pool) -> None:
    def inside(n: int) -> list[int]:
        import garrison.pool

        with garrison.pool.ThreadPool(2) as inner:
            return inner.map(abs, [-n, n])

    assert pool.map(inside, [1, 2]) == [[1, 1], [2, 2]]


# --- Whole programs -------------------------------------------------------------------------------

PROGRAM = """
import garrison as multiprocessing

FACTOR = 3
class Point:
    def __init__(self, x):
        self.x = x

def helper(n):
    return n * FACTOR

def triple(n):
    return helper(n)

def move(point):
    return Point(point.x + 1)

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(triple, range(3)), pool.apply(lambda n: helper(n), (5,)))
        moved = pool.map(move, [Point(1), Point(2)])
        print([type(each) is Point for each in moved], [each.x for each in moved])
        print([each.x for each in pool.imap_unordered(Point, [4])])
        FACTOR = 5
        print(pool.apply(triple, (1,)) in (3, 5))
"""
INITIALIZER = """
import garrison

table = None

def fill(value):
    global table
    table = {"value": value}

def look(n):
    return table["value"] + n

if __name__ == "__main__":
    with garrison.Pool(2, fill, (10,)) as pool:
        print(pool.map(look, range(4)))
        print(pool.apply(lambda: table["value"]))
"""
NO_GUARD = """
import garrison

def double(n):
    return 2 * n

with garrison.Pool(2) as pool:
    print(pool.map(double, [1, 2]), pool.map(lambda n: double(n), [3]))
"""
NESTED = """
import garrison

def inner(n):
    return n + 1

def outer(n):
    with garrison.Pool(1) as pool:
        return pool.apply(inner, (n,))

if __name__ == "__main__":
    with garrison.Pool(2) as pool:
        print(pool.map(outer, [1, 2]))
"""


def run(engine: Subject, program: str, folder: Path, **environment: str) -> str:
    """Run a program that does not name an engine; return what it prints."""
    path = folder / "program.py"
    path.write_text(program)
    search = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, "GARRISON_ENGINE": engine.text, "PYTHONPATH": search, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.watchdog(150)
@pytest.mark.needs("by_name")
def test_functions_and_classes_of_main(engine: Subject, tmp_path: Path) -> None:
    assert run(engine, PROGRAM, tmp_path).splitlines() == [
        "[0, 3, 6] 15",
        "[True, True] [2, 3]",
        "[4]",
        "True",
    ]


@pytest.mark.watchdog(150)
@pytest.mark.needs("by_name")
def test_tasks_of_main_see_what_its_initializer_has_set(engine: Subject, tmp_path: Path) -> None:
    assert run(engine, INITIALIZER, tmp_path).splitlines() == ["[10, 11, 12, 13]", "10"]


@pytest.mark.watchdog(150)
@pytest.mark.needs("by_name")
def test_program_without_a_guard(engine: Subject, tmp_path: Path) -> None:
    assert run(engine, NO_GUARD, tmp_path) == "[2, 4] [6]\n"


@pytest.mark.watchdog(150)
@pytest.mark.needs("by_name", "extensions")
def test_pool_in_a_task_does_not_start_a_cluster(engine: Subject, tmp_path: Path) -> None:
    assert run(engine, NESTED, tmp_path) == "[2, 3]\n"


def test_workers_have_the_programs_working_directory(pool: garrison.Pool) -> None:
    assert pool.apply(os.getcwd) == os.getcwd()  # noqa: PTH109 - what it is
