"""What becomes of a pool when a worker goes away, over every engine whose workers can."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from garrison.errors import WorkerDied
from waiting import wait_until

from . import tasks
from .test_life import environment_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import garrison

    from .subjects import Subject
    from .tasks import Marks

    MakeMarks = Callable[[str], Marks]

pytestmark = pytest.mark.needs("deaths")


def still_works(pool: garrison.Pool) -> bool:
    return pool.map(tasks.square, range(20), chunksize=1) == [n * n for n in range(20)]


def test_killed_worker_fails_its_task_alone(pool: garrison.Pool) -> None:
    results = [pool.apply_async(tasks.die_at, (n, 3)) for n in range(8)]
    with pytest.raises(WorkerDied) as raised:
        results[3].get()
    error: Any = raised.value
    assert error.signal == signal.SIGKILL
    assert "die_at" in error.task
    assert error.pid
    assert [results[n].get() for n in range(8) if n != 3] == [n for n in range(8) if n != 3]
    assert still_works(pool)


def test_killed_worker_fails_its_item_alone(pool: garrison.Pool) -> None:
    results = pool.imap(lambda n: tasks.die_at(n, 5), range(40))
    found: list[Any] = []
    for _ in range(40):
        try:
            found.append(next(results))
        except WorkerDied:
            found.append("lost")
    assert found == [*range(5), "lost", *range(6, 40)]


def test_map_with_a_killed_worker_raises(pool: garrison.Pool) -> None:
    with pytest.raises(WorkerDied):
        pool.map(lambda n: tasks.die_at(n, 5), range(10), chunksize=1)
    assert still_works(pool)


def test_killed_task_is_tried_again(pool: garrison.Pool, marks: MakeMarks) -> None:
    view = pool.options(retries=1)
    assert view.apply(tasks.die_first, (marks("one"), 7)) == 7
    many = [marks(f"m{n}") for n in range(6)]
    items = list(enumerate(many))
    assert view.map(lambda pair: tasks.die_first(pair[1], pair[0]), items) == list(range(6))
    assert [each.count() for each in many] == [2] * 6


def test_killed_items_are_tried_again(pool: garrison.Pool, marks: MakeMarks) -> None:
    many = [marks(f"m{n}") for n in range(10)]

    def step(n: int) -> int:
        return int(tasks.die_first(many[n], n)) if n % 3 == 0 else n

    assert list(pool.options(retries=1).imap(step, range(10))) == list(range(10))
    assert sorted(pool.options(retries=1).imap_unordered(step, range(10))) == list(range(10))


def test_error_callback_gets_a_death(pool: garrison.Pool) -> None:
    got: list[Any] = []
    pool.apply_async(tasks.die, error_callback=got.append).wait()
    assert [type(each) for each in got] == [WorkerDied]


@pytest.mark.needs("exits")
@pytest.mark.parametrize("code", [0, 3])
def test_sys_exit_in_a_task_is_its_error(pool: garrison.Pool, code: int) -> None:
    with pytest.raises(WorkerDied) as raised:
        pool.apply(tasks.leave, (code,))
    assert raised.value.exitcode == code
    assert still_works(pool)


@pytest.mark.parametrize("code", [0, 7])
def test_os_exit_in_a_task_is_its_error(pool: garrison.Pool, code: int) -> None:
    with pytest.raises(WorkerDied) as raised:
        pool.apply(tasks.leave_at_once, (code,))
    assert raised.value.exitcode == code
    assert still_works(pool)


def test_pool_survives_many_deaths(pool: garrison.Pool) -> None:
    results = [pool.apply_async(tasks.die_at, (n % 3, 0)) for n in range(30)]
    outcomes: list[Any] = []
    for result in results:
        try:
            outcomes.append(result.get())
        except WorkerDied:
            outcomes.append("lost")
    assert outcomes == ["lost" if n % 3 == 0 else n % 3 for n in range(30)]
    assert still_works(pool)


@pytest.mark.needs("pids")
def test_idle_worker_is_replaced(pool: garrison.Pool) -> None:
    assert still_works(pool)
    before = pool.statistics().worker_pids
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: before[0] not in pool.statistics().worker_pids)
    assert still_works(pool)


@pytest.mark.parametrize("seed", [1, 2])
def test_deaths_at_random_lose_and_double_nothing(
    engine: Subject, pool: garrison.Pool, marks: MakeMarks, seed: int
) -> None:
    source = random.Random(seed)
    unlucky = {n: marks(f"n{n}") for n in source.sample(range(300), 12)}

    def step(n: int) -> int:
        return int(tasks.die_first(unlucky[n], n)) if n in unlucky else n

    found = list(pool.options(retries=2).imap_unordered(step, range(300)))
    assert sorted(found) == list(range(300)), f"{engine.name}, seed {seed}"


KILLED = """
import garrison
from engines import tasks

if __name__ == "__main__":
    pool = garrison.Pool(2)
    print(*{pool.apply(tasks.pid) for _ in range(20)}, flush=True)
    pool.apply(tasks.stay, (tasks.Marks("begun"),))
"""


@pytest.mark.watchdog(150)
@pytest.mark.needs("by_name")
def test_workers_end_with_a_killed_program(engine: Subject, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(KILLED)
    program = subprocess.Popen(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=environment_of(engine),
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        pids = [int(each) for each in program.stdout.readline().split()]
        tasks.Marks(tmp_path / "begun").wait_for(1)
        program.kill()
    assert pids
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
