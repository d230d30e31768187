"""Changed bytes and cut files of a store in a folder: each is an error, or does no harm.

A child process changes one byte of a store's file, has it checked, opens it, reads all containers,
writes to them, and goes on to the next byte. What fails is a signal, a wait without an end, other
data than were written, an error of another kind, and damage that the check does not find.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import struct
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from damage import PAGE, watched
from garrison.errors import StoreCorrupt, StoreVersion
from garrison.store import Kind, inspect_folder, open_directory

SIZE = 64 << 20
LARGE = bytes(range(256)) * 40
SMALL_BATCH = 40
BATCH_S = 60


OPENED: list[Any] = []
"""The store of the trial before, which must be closed by now."""


class TrialFailedError(BaseException):
    """No Exception: it is not among those that a trial may see."""


# --- A store with everything in it ----------------------------------------------------------------

CONTENTS: dict[Kind, Any] = {
    Kind.DICT: {"one": 1, 2: "two", "large": LARGE, "nested": {"a": [1, {2}]}, None: 2**70},
    Kind.LIST: [1, "two", 3.0, LARGE, [4], None, True],
    Kind.SET: {1, "two", 3.5},
    Kind.DEQUE: [1, 2, 3],
    Kind.NAMESPACE: {"x": 1, "y": "two"},
    Kind.VALUE: 42,
    Kind.ARRAY: [1, 2, 3],
    Kind.QUEUE: [1, "two", LARGE],
    Kind.JOINABLE_QUEUE: [1],
    Kind.COUNTER: {"a": 3, "b": 1},
}
MANY = 300
"""Items of a dict beside them, so that the tree of pages has several levels."""


def make(store: Any, kind: Kind) -> Any:
    arguments: dict[Kind, tuple[Any, ...]] = {
        Kind.VALUE: ("i", CONTENTS[Kind.VALUE]),
        Kind.ARRAY: ("i", CONTENTS[Kind.ARRAY]),
    }
    if kind in {Kind.QUEUE, Kind.JOINABLE_QUEUE}:
        return store.make(kind, name=kind.name)
    if kind == Kind.NAMESPACE:
        return store.make(kind, name=kind.name, **CONTENTS[kind])
    return store.make(kind, *arguments.get(kind, (CONTENTS[kind],)), name=kind.name)


def fill(path: Path) -> None:
    store: Any = open_directory(path, sync=False, size=SIZE)
    for kind in Kind:
        container = make(store, kind)
        if kind in {Kind.QUEUE, Kind.JOINABLE_QUEUE}:
            for item in CONTENTS[kind]:
                container.put(item)
    many = store.make(Kind.DICT, name="many")
    many.update({f"key{number}": number for number in range(MANY)})
    for number in range(0, MANY, 7):
        del many[f"key{number}"]
    many["last"] = "last"


def plain(value: Any) -> Any:
    """What a container holds, as plain objects."""
    kind = type(value).__name__
    if kind in {"Dict", "Counter"}:
        return {key: plain(item) for key, item in value.items()}
    if kind in {"List", "Deque", "Array"}:
        return [plain(item) for item in value]
    return set(value) if kind == "Set" else value


def read(container: Any, kind: Kind) -> Any:
    if kind == Kind.NAMESPACE:
        return {"x": container.x, "y": container.y}
    return container.value if kind == Kind.VALUE else plain(container)


def use(path: Path) -> None:
    """Read everything, and write to it; raise TrialFailedError for what was not written."""
    store: Any = open_directory(path, sync=False, size=SIZE)
    compare([each for each in OPENED if each() is not None], [])
    OPENED[:] = [weakref.ref(store)]
    queues = {Kind.QUEUE, Kind.JOINABLE_QUEUE}
    for kind in [kind for kind in Kind if kind not in queues]:
        compare(read(make(store, kind), kind), CONTENTS[kind])
    many = store.make(Kind.DICT, name="many")
    expected = {f"key{number}": number for number in range(MANY) if number % 7}
    compare(dict(many.items()), expected | {"last": "last"})
    for number in range(30):
        many[f"new{number}"] = "new"
    del many["key1"]
    compare(many["new7"], "new")
    for kind in queues:
        queue = store.make(kind, name=kind.name)
        compare([queue.get_nowait() for _ in CONTENTS[kind]], CONTENTS[kind])
    make(store, Kind.LIST).append("new")
    compare(make(store, Kind.LIST)[-1], "new")
    compare(store.backend.audit(), [])


def compare(found: object, expected: object) -> None:
    if found != expected:
        raise TrialFailedError(repr(found)[:200])


# --- Trials ---------------------------------------------------------------------------------------

Change = Callable[[bytearray], None]


@pytest.fixture(scope="module")
def store_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder with a store that no process has open, and the bytes of its file in use."""
    path = tmp_path_factory.mktemp("flipped")
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(Exception):
            fill(path)
            code = 0
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    data = (path / "data.mdb").read_bytes()
    return path, data[: bytes_used(data)]


def bytes_used(data: bytes) -> int:
    heads = [struct.unpack_from("QQ", data, number * PAGE + 16 + 120) for number in range(2)]
    last_page: int = max(heads, key=lambda head: head[1])[0]
    return (last_page + 1) * PAGE


def run_batch(path: Path, changed: list[bytes], reached: int) -> None:
    """In a child: open the store with each of these files."""
    watched(BATCH_S)
    gc.collect()
    gc.freeze()  # what the child has inherited is not looked at again and again
    unharmed = 0
    for number, data in enumerate(changed):
        os.pwrite(reached, struct.pack("II", number, unharmed), 0)
        (path / "data.mdb").write_bytes(data)
        try:
            found = inspect_folder(str(path))
            use(path)
            unharmed += 1
        except StoreVersion:
            pass
        except StoreCorrupt as error:
            if not found.damage:
                raise TrialFailedError(f"garrison check finds nothing: {error}") from error
        gc.collect()
    os.pwrite(reached, struct.pack("II", len(changed), unharmed), 0)


def run_child(path: Path, changed: list[bytes]) -> tuple[int, int, str]:
    """Return how many files were tried, how many did no harm, and how the child ended."""
    reached = os.memfd_create("reached")
    pid = os.fork()
    if not pid:
        code = 1
        try:
            run_batch(path, changed, reached)
            code = 0
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.stderr.flush()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    tried, unharmed = struct.unpack("II", os.pread(reached, 8, 0))
    os.close(reached)
    name = "" if not code else "wrong" if code > 0 else signal.Signals(-code).name
    return tried, unharmed, name


def run_trials(
    path: Path, data: bytes, changes: Iterable[tuple[Any, Change]]
) -> tuple[int, list[str]]:
    """Try each change of the file; how many did no harm, and those that failed."""
    failed: list[str] = []
    unharmed = 0
    left = list(changes)
    while left:
        batch = left[:SMALL_BATCH]
        changed = []
        for _, change in batch:
            copy = bytearray(data)
            change(copy)
            changed.append(bytes(copy))
        tried, fine, how = run_child(path, changed)
        unharmed += fine
        if how:
            failed.append(f"{batch[tried][0]}: {how}")
            tried += 1
        left = left[tried:]
    return unharmed, failed


def flip(at: int, mask: int) -> tuple[str, Change]:
    def change(data: bytearray) -> None:
        data[at] ^= mask

    return f"byte {at % PAGE} of page {at // PAGE} ^ {mask:#x}", change


def cut(length: int) -> tuple[str, Change]:
    def change(data: bytearray) -> None:
        del data[length:]

    return f"cut to {length} bytes", change


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f" {text} ")
        sys.stdout.flush()


HEAD_BYTES = 160
"""All of a head, and some that are not used."""
MASKS = 0xFF, 0x01


@pytest.mark.watchdog(120)
def test_every_byte_of_both_heads(
    store_file: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = store_file
    places = [*range(HEAD_BYTES), *range(PAGE, PAGE + HEAD_BYTES), PAGE - 1, 2 * PAGE - 1]
    changes = [flip(at, mask) for at in places for mask in MASKS]
    unharmed, failed = run_trials(path, data, changes)
    say(capsys, f"{len(changes)} bytes flipped, {unharmed} of them did no harm")
    assert failed == []
    assert 0 < unharmed < len(changes) / 2


def offsets_in_pages(data: bytes) -> Iterator[int]:
    """Headers and where nodes lie in full, some bytes of nodes, and some of what is between."""
    for page in range(2 * PAGE, len(data), PAGE):
        lower, upper = struct.unpack_from("HH", data, page + 12)
        is_tree = data[page + 10] in {1, 2}
        yield from range(page, page + 16)
        if is_tree:
            yield from range(page + 16, page + min(lower, 20))
            yield from range(page + upper, page + min(upper + 12, PAGE))
        yield from range(page + 37 + page // PAGE % 97, page + PAGE, 1201)


@pytest.mark.watchdog(240)
def test_bytes_of_every_kind_of_page(
    store_file: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = store_file
    kinds = {data[page + 10] for page in range(0, len(data), PAGE)}
    assert {1, 2, 4, 8} <= kinds
    changes = [flip(at, 0xFF if at % 3 else 0x10) for at in offsets_in_pages(data)]
    unharmed, failed = run_trials(path, data, changes)
    say(capsys, f"{len(changes)} bytes flipped, {unharmed} of them did no harm")
    assert failed == []
    assert 0 < unharmed < len(changes)


@pytest.mark.watchdog(120)
def test_a_store_that_was_cut(
    store_file: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = store_file
    pages = range(0, len(data), PAGE)
    lengths = [*(at + more for at in pages for more in (0, 1)), *range(1, len(data), 9973)]
    changes = [cut(length) for length in lengths]
    unharmed, failed = run_trials(path, data, [*changes, cut(len(data))])
    say(capsys, f"cut to {len(changes)} lengths")
    assert failed == []
    assert 1 <= unharmed < 10
