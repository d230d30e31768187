"""`import garrison as multiprocessing` is the whole migration: same names, same signatures."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import multiprocessing.pool
import multiprocessing.synchronize
import pickle
import subprocess
import sys
from typing import Any

import pytest

import garrison
import garrison.pool
import garrison.sync

METHODS = ("fork", "spawn", "forkserver")
ADDED = {
    "imap": ["buffersize"],
    "imap_unordered": ["buffersize"],
    "__init__": ["engine", "options"],
    "__init__ of a ThreadPool": ["options"],
}
SYNC = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier")
"""Parameters that garrison documents beyond the standard library's; each can be left out."""
PUBLIC = [
    name
    for name, value in vars(multiprocessing.pool.Pool).items()
    if callable(getattr(multiprocessing.pool.Pool, name)) and not name.startswith("_")
]


def parameters(function: Any) -> dict[str, tuple[Any, Any]]:
    signature = inspect.signature(function)
    return {name: (each.kind, each.default) for name, each in signature.parameters.items()}


def assert_only_more(ours: Any, theirs: Any) -> None:
    """Check that every call of `theirs` is a call of `ours`, where what is more has to be named."""
    mine, standard = parameters(ours), parameters(theirs)
    assert list(mine.items())[: len(standard)] == list(standard.items())
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    assert all(mine[each][0] in named for each in mine if each not in standard)


def assert_same(name: str, ours: Any, theirs: Any) -> None:
    mine, standard = parameters(ours), parameters(theirs)
    added = [each for each in mine if each not in standard]
    assert added == [each for each in ADDED.get(name, []) if each not in standard]
    assert list(mine.items())[: len(standard)] == list(standard.items())
    for each in added:
        kind, default = mine[each]
        assert kind == inspect.Parameter.VAR_KEYWORD or default is None


def test_every_standard_name_is_here() -> None:
    assert set(multiprocessing.__all__) <= set(garrison.__all__)
    assert [name for name in multiprocessing.__all__ if not hasattr(garrison, name)] == []


def test_every_public_name_exists() -> None:
    assert [name for name in garrison.__all__ if not hasattr(garrison, name)] == []


def test_names_beside_all_are_found_too() -> None:
    assert garrison.SUBDEBUG == 5
    context: Any = garrison.context
    assert context._tls is vars(multiprocessing.context)["_tls"]
    with pytest.raises(AttributeError, match="'garrison' has no attribute 'Pol'"):
        garrison.Pol  # type: ignore[attr-defined] # noqa: B018


def test_names_and_modules_are_listed_before_they_are_loaded() -> None:
    program = "import sys, garrison; print(*dir(garrison)); print('garrison.aio' in sys.modules)"
    command = [sys.executable, "-c", program]
    names, loaded = subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {*garrison.__all__, "aio", "store"} <= {*names.split()}
    assert loaded == "False"


def test_a_missing_joblib_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    monkeypatch.delitem(sys.modules, "garrison.joblib", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'garrison\[joblib\]'"):
        importlib.import_module("garrison.joblib")


@pytest.mark.parametrize("name", ["connection", "reduction", "util"])
def test_submodules_are_found_as_attributes(name: str) -> None:
    assert getattr(garrison, name) is importlib.import_module(f"multiprocessing.{name}")


@pytest.mark.parametrize("name", ["__init__", *PUBLIC])
def test_methods_of_a_pool_have_the_standard_signature(name: str) -> None:
    assert_same(name, getattr(garrison.Pool, name), getattr(multiprocessing.pool.Pool, name))


# The standard library's ThreadPool makes its threads with `Process`, garrison's does not.
@pytest.mark.parametrize("name", ["__init__", *(each for each in PUBLIC if each != "Process")])
def test_methods_of_a_thread_pool_have_the_standard_signature(name: str) -> None:
    ours, theirs = garrison.pool.ThreadPool, multiprocessing.pool.ThreadPool
    title = f"{name} of a ThreadPool" if name == "__init__" else name
    assert_same(title, getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("name", ["get", "wait", "ready", "successful"])
@pytest.mark.parametrize("kind", ["ApplyResult", "AsyncResult", "MapResult"])
def test_methods_of_results_have_the_standard_signature(kind: str, name: str) -> None:
    ours, theirs = getattr(garrison.pool, kind), getattr(multiprocessing.pool, kind)
    assert_same(name, getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("kind", ["IMapIterator", "IMapUnorderedIterator"])
def test_next_of_an_iterator_has_the_standard_signature(kind: str) -> None:
    ours, theirs = getattr(garrison.pool, kind), getattr(multiprocessing.pool, kind)
    assert_same("next", ours.next, theirs.next)


@pytest.mark.parametrize("name", ["get_context", "get_start_method", "set_start_method"])
def test_functions_of_the_package_have_the_standard_signature(name: str) -> None:
    assert_same(name, getattr(garrison, name), getattr(multiprocessing, name))


@pytest.mark.parametrize("name", SYNC)
def test_locks_have_the_standard_signature_and_are_ours(name: str) -> None:
    ours, theirs = getattr(garrison, name), getattr(multiprocessing, name)
    assert_only_more(ours, theirs)
    assert ours is getattr(garrison.sync, name)
    assert ours is getattr(garrison.synchronize, name)
    assert ours.__module__ == "garrison.sync"
    standard = getattr(multiprocessing.synchronize, name)
    for method in ("acquire", "release", "wait", "notify", "notify_all", "reset", "set"):
        assert not hasattr(standard, method) or hasattr(ours, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SYNC)
def test_locks_of_a_context_are_ours(method: str, name: str) -> None:
    ours, theirs = garrison.get_context(method), multiprocessing.get_context(method)
    assert_only_more(getattr(ours, name), getattr(theirs, name))
    arguments = (2,) if name == "Barrier" else ()
    assert type(getattr(ours, name)(*arguments)) is getattr(garrison, name)
    if name != "Barrier":  # which takes shared memory for good
        assert type(getattr(theirs, name)()).__module__ == "multiprocessing.synchronize"


def test_synchronize_has_all_that_the_standard_one_has() -> None:
    face: Any = importlib.import_module("garrison.synchronize")
    assert face is garrison.synchronize
    assert face.SEM_VALUE_MAX > 1000  # beside `__all__`
    assert [name for name in multiprocessing.synchronize.__all__ if not hasattr(face, name)] == []
    with pytest.raises(AttributeError, match="Lokc"):
        face.Lokc  # noqa: B018


@pytest.mark.parametrize("method", METHODS)
def test_standard_library_objects_work_with_garrisons_locks(method: str) -> None:
    context: Any = garrison.get_context(method)
    queues = [context.Queue(2), context.JoinableQueue(), context.SimpleQueue()]
    condition = context.Condition()
    worker = context.Process(target=pass_on, args=(queues, condition))
    with condition:
        worker.start()
        assert condition.wait()
    assert [queue.get() for queue in queues] == [1, 2, 3]
    queues[1].task_done()
    queues[1].join()
    worker.join()
    assert worker.exitcode == 0
    worker.close()
    for queue in queues:
        queue.close()
    for queue in queues[:2]:
        queue.join_thread()


def pass_on(queues: list[Any], condition: Any) -> None:
    with condition:
        condition.notify_all()
    for number, queue in enumerate(queues, 1):
        queue.put(number)


@pytest.mark.parametrize("method", METHODS)
def test_a_context_has_all_that_the_standard_one_has(method: str) -> None:
    ours: Any = garrison.get_context(method)
    theirs = multiprocessing.get_context(method)
    assert isinstance(ours, type(theirs))
    assert_same("__init__", ours.Pool, theirs.Pool)
    assert ours.get_start_method() == method
    with ours.Pool(1) as pool:
        assert isinstance(pool, garrison.Pool)
        assert pool.apply(abs, (-1,)) == 1


def test_a_context_of_a_context_makes_our_pools_too() -> None:
    context = garrison.get_context("spawn")
    assert context.get_context() is context
    assert type(context.get_context("fork")) is type(garrison.get_context("fork"))
    assert context.get_context("fork").get_start_method() == "fork"


def test_an_unknown_start_method_is_named() -> None:
    with pytest.raises(ValueError, match="'teleport'"):
        garrison.get_context("teleport")


def test_the_start_method_is_shared_with_multiprocessing() -> None:
    assert garrison.get_start_method() == multiprocessing.get_start_method()
    assert garrison.get_context().get_start_method() == multiprocessing.get_start_method()


def test_public_classes_say_where_users_find_them() -> None:
    for kind in (garrison.Pool, garrison.pool.AsyncResult, garrison.pool.IMapIterator):
        assert kind.__module__ == "garrison.pool"


def test_errors_are_of_the_standard_types_too() -> None:
    assert issubclass(garrison.ArgumentUnpicklable, (pickle.PicklingError, TypeError))
    assert issubclass(garrison.PoolClosed, ValueError)
    assert issubclass(garrison.TaskTimeout, TimeoutError)
    assert issubclass(garrison.SharedMemoryFull, MemoryError)
