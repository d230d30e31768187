"""Large arrays as arguments of joblib's tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joblib import Parallel, delayed, parallel_config

from garrison import share
from garrison.joblib import _arrays

np = pytest.importorskip("numpy", reason="numpy is not installed")

SIZE = 1 << 18  # 2 MiB of floats


@pytest.fixture(autouse=True)
def backend() -> Iterator[None]:
    with parallel_config(backend="garrison", n_jobs=2, start_method="fork"):
        yield


def facts(array: Any) -> tuple[float, bool, Any, Any, type]:
    return float(array.sum()), array.flags.writeable, array.dtype, array.shape, type(array)


def inside(container: Any) -> Any:
    return facts(container["data"][0])


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arrays that are copied into shared memory."""
    made: list[Any] = []

    def counted(array: Any) -> Any:
        made.append(array)
        return share(array)

    monkeypatch.setattr(_arrays, "share", counted)
    return made


def test_an_array_of_many_tasks_is_copied_once_and_arrives_read_only(copies: list[Any]) -> None:
    array = np.ones(SIZE)
    found = Parallel(batch_size=1)(delayed(facts)(array) for _ in range(20))
    assert found == [(SIZE, False, array.dtype, array.shape, np.ndarray)] * 20
    assert len(copies) == 1


def test_an_array_inside_of_other_objects_is_shared_as_well(copies: list[Any]) -> None:
    data = {"data": [np.ones((SIZE // 4, 4), order="F")]}
    found = Parallel(batch_size=1)(delayed(inside)(dict(data)) for _ in range(10))
    assert {each[:2] for each in found} == {(SIZE, False)}
    assert len(copies) == 1


def test_each_call_sees_what_an_array_holds_then() -> None:
    array = np.ones(SIZE)
    with Parallel() as run:
        assert run(delayed(np.sum)(array) for _ in range(3)) == [SIZE] * 3
        array[:] = 2
        assert run(delayed(np.sum)(array) for _ in range(3)) == [2 * SIZE] * 3


def test_arrays_made_for_one_task_do_not_stay() -> None:
    run = Parallel(batch_size=1, return_as="generator")
    arrays = (np.full(SIZE, float(n)) for n in range(20))
    assert list(run(delayed(np.sum)(each) for each in arrays)) == [SIZE * n for n in range(20)]
    assert run._backend._arrays._shared == {}


def test_smaller_arrays_are_each_tasks_own() -> None:
    array = np.ones(SIZE // 8)
    assert {each[:2] for each in Parallel()(delayed(facts)(array) for _ in range(4))} == {
        (SIZE // 8, True)
    }
    large = np.ones(SIZE)
    found = Parallel(max_nbytes=None)(delayed(facts)(large) for _ in range(4))
    assert {each[:2] for each in found} == {(SIZE, True)}


def fill(array: Any, n: int) -> None:
    array[n] = n


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize(("mode", "is_writable"), [("r", False), ("c", True), (None, True)])
def test_an_array_arrives_alike_in_its_first_task_and_in_others(
    tasks: int, mode: str | None, is_writable: bool
) -> None:
    for array in (
        np.arange(SIZE),
        np.arange(SIZE).reshape(4, -1, order="F"),
        np.arange(SIZE)[::-1],
    ):
        found = Parallel(batch_size=1, mmap_mode=mode)(
            delayed(lambda each: (each.copy(), each.flags.writeable))(array) for _ in range(tasks)
        )
        assert all(np.array_equal(copy, array) for copy, _ in found)
        assert [flag for _, flag in found] == [is_writable] * tasks


def test_an_array_that_is_too_large_to_be_there_twice_is_shared_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_arrays, "MOST_SENT", SIZE)
    assert Parallel()(delayed(np.sum)(np.ones(SIZE)) for _ in range(2)) == [SIZE] * 2


@pytest.mark.parametrize("mode", ["c", None])
def test_a_private_copy_can_be_written_to(mode: str | None) -> None:
    array = np.ones(SIZE)

    def double(array: Any) -> float:
        array *= 2
        return float(array.sum())

    found = Parallel(mmap_mode=mode)(delayed(double)(array) for _ in range(6))
    assert (found, array.sum()) == ([2 * SIZE] * 6, SIZE)


def test_writes_into_a_shared_array_are_seen_by_other_tasks_only() -> None:
    array = np.zeros(SIZE)

    def count(array: Any, n: int) -> int:
        array[n] = 1
        return int(array.sum())

    found = Parallel(n_jobs=2, mmap_mode="r+", batch_size=1)(
        delayed(count)(array, n) for n in range(10)
    )
    assert max(found) == 10
    assert array.sum() == 0


# --- Mapped files ---------------------------------------------------------------------------------


def test_tasks_write_into_a_file_that_the_program_has_mapped(tmp_path: Path) -> None:
    output = np.memmap(tmp_path / "output", dtype="f8", mode="w+", shape=(SIZE,))
    Parallel()(delayed(fill)(output, n) for n in range(10))
    assert output[:10].tolist() == list(range(10))


@pytest.mark.parametrize(
    "view",
    [
        lambda array: array[3:],
        lambda array: array[::-2, 1::3],
        lambda array: array.T,
        lambda array: np.asarray(array)[5:7],
        lambda array: array[:0],
        lambda array: array.view("i4"),
    ],
)
def test_views_of_a_mapped_file_are_mapped_too(tmp_path: Path, view: Any) -> None:
    path = tmp_path / "data"
    np.arange(4096.0).tofile(path)
    mapped = np.memmap(path, dtype="f8", mode="r+", offset=800, shape=(30, 20))
    (found,) = Parallel()([delayed(np.array)(view(mapped))] * 2)[:1]
    assert np.array_equal(found, view(mapped))
    assert found.dtype == view(mapped).dtype


def mappings(array: Any) -> bool:
    return "output" in Path(f"/proc/{os.getpid()}/maps").read_text()


def test_a_mapped_file_is_not_copied(tmp_path: Path) -> None:
    output = np.memmap(tmp_path / "output", dtype="f8", mode="w+", shape=(SIZE,))
    assert all(Parallel()(delayed(mappings)(output[7:]) for _ in range(4)))


def test_a_shared_object_among_the_arguments() -> None:
    table = share({"a": np.ones(SIZE)})
    found = Parallel(batch_size=1)(delayed(lambda t: t.get()["a"].sum())(table) for _ in range(6))
    assert found == [SIZE] * 6
