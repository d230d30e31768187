"""Types as checkers see them: of the public names, and of the README's programs.

mypy reads all tests, and so checks what is under ``TYPE_CHECKING`` here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import garrison

if TYPE_CHECKING:
    import ctypes
    import multiprocessing.context
    import multiprocessing.managers
    import multiprocessing.pool
    import multiprocessing.queues
    import multiprocessing.synchronize
    from collections.abc import MutableMapping, MutableSequence

    from typing_extensions import assert_type

    from garrison import context, sync
    from garrison.manager import SyncManager
    from garrison.pool import Pool
    from garrison.shared_memory import ShareableList
    from garrison.store import Counter, Dict, List, Value

    # What functions take that know the standard library's classes, or abstract ones, only.
    def as_standard(queue: multiprocessing.queues.Queue[int]) -> None: ...
    def as_standard_lock(lock: multiprocessing.synchronize.Lock) -> None: ...
    def as_standard_context(context: multiprocessing.context.BaseContext) -> None: ...
    def as_standard_pool(pool: multiprocessing.pool.Pool) -> None: ...
    def as_proxy(ages: multiprocessing.managers.DictProxy[str, int]) -> None: ...
    def as_mapping(ages: MutableMapping[str, int], names: MutableSequence[str]) -> None: ...

    def values() -> None:
        assert_type(garrison.Value("i", 1), sync.Synchronized[int])
        assert_type(garrison.Value("d").add(0.5), float)
        assert_type(garrison.Value(ctypes.c_int, 1).value, int)
        assert_type(garrison.Array("q", 3)[0], int)
        assert_type(garrison.Array("d", [1.0])[:], list[float])
        assert_type(garrison.Array("c", 8), sync.SynchronizedString)
        assert_type(garrison.Array("c", 8).value, bytes)
        assert_type(garrison.RawValue(ctypes.c_int, 1), ctypes.c_int)
        assert_type(garrison.share({"a": 1}).get(), dict[str, int])

    def queues(numbers: garrison.Queue[int], any_items: garrison.SimpleQueue) -> None:
        as_standard(numbers)
        assert_type(numbers.get(timeout=1), int)
        assert_type(numbers.get_many(5), list[int])
        assert_type(any_items.get(), Any)
        assert_type(garrison.Queue().get(), Any)

    def locks() -> None:
        as_standard_lock(garrison.Lock(on_abandon="raise"))
        assert_type(garrison.Lock().acquire(timeout=1), bool)
        garrison.Lock(on_abandon="rais")  # type: ignore[arg-type]
        garrison.Condition(garrison.Lock())

    def contexts() -> None:
        as_standard_context(garrison.get_context())
        assert_type(garrison.get_context("spawn"), context.SpawnContext)
        assert_type(garrison.get_context("fork").Pool(2, retries=1), Pool)
        assert_type(garrison.get_context().Value("i", 0), sync.Synchronized[int])
        garrison.get_context().Process(target=print)
        garrison.get_context().Lock(detect_deadlocks=True)
        garrison.get_context().Pool(2, retry=1)  # type: ignore[call-arg]

    def pools() -> None:
        as_standard_pool(garrison.Pool(2, timeout=5, retry_on=OSError))
        with garrison.Pool(2) as pool:
            assert_type(pool, Pool)
            assert_type(pool.statistics().worker_pids, tuple[int, ...])
        garrison.Pool(2, timeout="5")  # type: ignore[arg-type]

    def managers() -> None:
        with garrison.Manager(path="state", sync=True) as manager:
            assert_type(manager, SyncManager)
        as_mapping(manager.dict({"Ada": 36}), manager.list(["Ada"]))
        as_proxy(manager.dict({"Ada": 36}))
        assert_type(manager.dict({"Ada": 36}), Dict[str, int])
        assert_type(manager.dict(Ada=36), Dict[str, Any])
        assert_type(manager.dict("ages", Ada=36), Dict[Any, Any])
        assert_type(manager.list(), List[Any])
        assert_type(manager.list([1]).pop(), int)
        assert_type(manager.set([1]).pop(), int)
        assert_type(manager.Counter("words"), Counter[Any])
        assert_type(manager.Value("i", 1), Value[int])
        assert_type(manager.Lock("door").fence, int)
        assert_type(manager.Lock().acquire(timeout=1), bool)
        assert_type(manager.Event().wait(1), bool)
        assert_type(garrison.connect("garrison://host:5000"), SyncManager)
        garrison.Manager(pth="state")  # type: ignore[call-arg]

    def blocks(row: ShareableList[int]) -> None:
        assert_type(row[0], int)
        garrison.Pol(2)  # type: ignore[attr-defined] # a name that is not there


def test_names_for_checkers_are_no_names_of_the_modules() -> None:
    names = {"LockOptions", "ManagerOptions", "OptionValues", "IntCode", "ObjectClient"}
    modules = (garrison, garrison.sync, garrison.options, garrison.memory, garrison.managers)
    assert [name for name in names for module in modules if name in dir(module)] == []


# --- The README ----------------------------------------------------------------------------------

README = Path(__file__).parent.parent / "README.md"


def programs() -> list[str]:
    """Return the README's programs in Python."""
    return re.findall(
        r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.mark.watchdog(180)
def test_programs_of_the_readme_are_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    assert len(programs()) >= 6
    files = [tmp_path / f"program_{number}.py" for number in range(len(programs()))]
    for file, program in zip(files, programs(), strict=True):
        file.write_text(program)
    command = [sys.executable, "-m", "mypy", "--check-untyped-defs", "--ignore-missing-imports"]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), *map(str, files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- Everything ----------------------------------------------------------------------------------

STANDARD = {
    *("connection", "heap", "popen_fork", "popen_forkserver", "popen_spawn_posix", "process"),
    *("reduction", "resource_sharer", "spawn", "util"),
}
"""Modules that are the standard library's, whose types have no docstrings."""
FROM_THE_STANDARD_LIBRARY = {
    *("AuthenticationError", "BrokenBarrierError", "BufferTooShort", "Full", "ProcessError"),
    *("TimeoutError", "active_children", "assert_spawning", "current_process", "freeze_support"),
    *("get_spawning_popen", "parent_process", "set_spawning_popen"),
}
"""Names of its own that garrison gives out, which have none either."""


@pytest.fixture(scope="module")
def completeness() -> Any:
    """Return what pyright says of the package's types."""
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed")
    command = [sys.executable, "-m", "basedpyright", "--verifytypes", "garrison"]
    done = subprocess.run(
        [*command, "--ignoreexternal", "--outputjson"],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)["typeCompleteness"]


@pytest.mark.watchdog(180)
def test_every_public_type_is_known_to_pyright(completeness: Any) -> None:
    unknown = [
        (symbol["name"], [each["message"] for each in symbol["diagnostics"]])
        for symbol in completeness["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
    ]
    assert unknown == []
    assert completeness["completenessScore"] == 1
    assert completeness["exportedSymbolCounts"]["withKnownType"] > 400


@pytest.mark.watchdog(180)
def test_every_public_symbol_has_a_docstring(completeness: Any) -> None:
    assert [
        symbol["name"]
        for symbol in completeness["symbols"]
        if symbol["isExported"]
        and any("docstring" in each["message"] for each in symbol["diagnostics"])
        and not STANDARD & set(symbol["name"].split("."))
        and symbol["name"].rpartition(".")[2] not in FROM_THE_STANDARD_LIBRARY
    ] == []
