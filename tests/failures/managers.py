"""Managers: killed clients and servers, proxies in transfer, unauthenticated peers."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

from waiting import becomes_true

from . import registered
from .locks import _child, _die, _got, _held_by_a_child, _in_time
from .namespaces import unshared
from .registry import row
from .seccomp import refuse_fallocate
from .subject import PATIENCE, Hangs, Lost, Subject, Wrong, check, same
from .victims import Victim, nothing_left

KEY = b"a key that is long enough for anybody"
SOON = 1.0


def _manager(subject: Subject, *args: Any, **options: Any) -> Any:
    return subject.module.get_context(subject.method).Manager(*args, **options)


def _told(channel: Any) -> Any:
    """What a child has to say; an error if it is one of those that it met."""
    if not channel.poll(PATIENCE):
        message = "the child says nothing"
        raise Hangs(message)
    kind, value = channel.recv()
    if kind == "error":
        raise Wrong(value)
    return value


@contextlib.contextmanager
def _telling(channel: Any) -> Iterator[None]:
    """Tell what goes wrong in a child."""
    try:
        yield
    except BaseException as error:
        # The standard library's RemoteError has a frame of dashes around a traceback.
        lines = [line for line in str(error).splitlines() if line.strip("- ")] or [""]
        channel.send(("error", f"{type(error).__name__}: {lines[-1]}"))


# -- locks and containers -------------------------------------------------------------------------


@row(
    "a process is killed with a manager's",
    source="manager",
    cases=["Lock", "RLock", "BoundedSemaphore"],
    fine=["RLock-*"],
)
def manager_lock_holder_killed(subject: Subject, kind: str) -> None:
    with _manager(subject) as manager:
        lock = getattr(manager, kind)()
        _die(_held_by_a_child(subject, lock))
        _got(lock.acquire(True, PATIENCE))
        lock.release()


@row("a value is set in a dict that lies in a manager's dict: d['a']['b'] = 1", source="manager")
def nested_write(subject: Subject) -> None:
    with _manager(subject) as manager:
        shared = manager.dict()
        shared["a"] = {}
        shared["a"]["b"] = 1
        if dict(shared["a"]) != {"b": 1}:
            message = f"d['a'] is {shared['a']}"
            raise Lost(message)


def iterate(handles: Any, results: Any) -> None:
    """Receive a dict, and go through it."""
    with _telling(results):
        shared = handles.recv()
        results.send(("found", sorted(shared)))


@row("a manager's dict is sent to another process, which iterates over it", source="manager")
def iterate_in_child(subject: Subject) -> None:
    context = subject.module.get_context(subject.method)
    with _manager(subject) as manager:
        shared = manager.dict(a=1, b=2)
        (theirs, ours), (results, said) = context.Pipe(False), context.Pipe(False)
        child = _child(subject, iterate, theirs, said)
        ours.send(shared)
        same(_told(results), ["a", "b"])
        child.join()


@row("a client is killed with an item that it has taken from a manager's queue", source="manager")
def queue_item_of_the_dead(subject: Subject) -> None:
    context = subject.module.get_context(subject.method)
    with _manager(subject) as manager:
        items = manager.Queue()
        items.put("an item")
        ready, said = context.Pipe(False)
        child = _child(subject, take_and_wait, items, said)
        check(ready.poll(PATIENCE), "the child takes nothing")
        _die(child)
        try:
            same(items.get(timeout=PATIENCE), "an item")
        except queue.Empty:
            message = "the item is gone"
            raise Lost(message) from None


def take_and_wait(items: Any, said: Any) -> None:
    """Take an item, so that it comes back if that is possible, and deal with it for ever."""
    with items.claim() if hasattr(items, "claim") else contextlib.nullcontext(items.get()):
        said.send(1)
        while True:
            signal.pause()


@row(
    "a client is killed in the middle of a transaction",
    source="manager",
    cases=["at home", "from afar"],
    only_garrison="it has no transactions",
)
def killed_in_a_transaction(subject: Subject, where: str) -> None:
    context = subject.module.get_context(subject.method)
    with _manager(subject, ("127.0.0.1", 0), key=KEY) as manager:
        accounts = manager.dict("accounts", a=10, b=0)
        ready, said = context.Pipe(False)
        child = _child(subject, begin_and_wait, manager.address, where == "at home", said)
        same(_told(ready), 3)
        same(dict(accounts), {"a": 10, "b": 0})
        _die(child)

        def move() -> bool:
            with manager.transaction():
                accounts["a"] -= 1
                accounts["b"] += 1
            return True

        _in_time(move)
        same(dict(accounts), {"a": 9, "b": 1})


def begin_and_wait(address: Any, direct: bool, said: Any) -> None:
    """Change something in a transaction, and never end it."""
    import garrison

    with _telling(said):
        manager = garrison.connect(address, KEY, direct=direct)
        accounts = manager.dict("accounts")
        with manager.transaction():
            accounts["a"] -= 7
            said.send(("found", accounts["a"]))
            while True:
                signal.pause()


# -- proxies --------------------------------------------------------------------------------------


@row(
    "a proxy goes from A to B to C, each of whom lets go of it at once",
    source="#43",
    cases=["a list", "an object"],
    fine=["*-fork"],
)
def proxy_passed_on(subject: Subject, kind: str) -> None:
    context = subject.module.get_context(subject.method)
    manager = registered.manager(subject) if kind == "an object" else _manager(subject)
    if kind == "an object":
        manager.start()
    with manager:
        proxy = manager.Tally(41) if kind == "an object" else manager.list([40, 41])
        pipes = [context.Pipe(False) for _ in range(2)]
        (from_b, b_said), (from_c, c_said) = context.Pipe(False), context.Pipe(False)
        go = context.Event()
        b = _child(subject, pass_on, pipes[0][0], pipes[1][1], go, b_said)
        c = _child(subject, use, pipes[1][0], c_said)
        pipes[0][1].send(proxy)
        del proxy
        gc.collect()
        go.set()
        same(_told(from_b), "passed on")
        same(_told(from_c), 42)
        b.join()
        c.join()


def pass_on(source: Any, target: Any, go: Any, said: Any) -> None:
    """Send on what comes, once the sender has let go of it, and let go of it."""
    with _telling(said):
        go.wait()
        proxy = source.recv()
        target.send(proxy)
        del proxy
        gc.collect()
        said.send(("found", "passed on"))


def use(source: Any, said: Any) -> None:
    """Call what comes."""
    with _telling(said):
        proxy = source.recv()
        if hasattr(proxy, "append"):
            proxy.append(42)
            said.send(("found", proxy[-1]))
        else:
            said.send(("found", proxy.add()))


@row(
    "proxies lie in objects of the same manager, and all are let go: objects in the server",
    source="#43",
    fine=["*"],
)
def nested_proxies_freed(subject: Subject) -> None:
    with registered.manager(subject) as manager:
        before = manager._number_of_objects()
        shelf = manager.Shelf()
        for n in range(10):
            inner = manager.Shelf()
            inner.put(manager.Tally(n))
            shelf.put(inner)
        del shelf, inner
        gc.collect()
        becomes_true(lambda: manager._number_of_objects() == before, PATIENCE)
        same(manager._number_of_objects(), before)


@row(
    "a process forks while it uses a manager, and both go on with the same proxies",
    source="#43",
    cases=["os.fork", "os.fork in the middle of a call", "Process"],
    limit=20.0,
    fine=["Process-*"],
)
def fork_while_in_use(subject: Subject, case: str) -> None:
    with registered.manager(subject) as manager:
        tally = manager.Tally()
        tally.add(0)
        stop = threading.Event()
        caller = threading.Thread(target=_echo_until, args=(tally, stop), daemon=True)
        if case != "os.fork":
            caller.start()
        children = [_forked(subject, case, tally) for _ in range(3)]
        _in_time(_echo, tally, b"parent", 300)
        for child in children:
            same(_in_time(child), 0)
        stop.set()
        if caller.ident:
            caller.join(PATIENCE)
            check(not caller.is_alive(), "a thread's call has not come back")


def _forked(subject: Subject, case: str, tally: Any) -> Callable[[], int]:
    """Start a child that uses a proxy; return what waits for its status."""
    if case == "Process":
        process = _child(subject, echo, tally)

        def join() -> int:
            process.join()
            return int(process.exitcode)

        return join
    pid = os.fork()
    if not pid:
        try:
            echo(tally)
            os._exit(0)
        finally:
            os._exit(1)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def echo(tally: Any) -> None:
    """Use a proxy in a child."""
    _echo(tally, b"child", 300)


def _echo(tally: Any, mark: bytes, times: int) -> bool:
    for n in range(times):
        value = mark + str((os.getpid(), n)).encode() * 50
        same(tally.give(value), value)
    return True


def _echo_until(tally: Any, stop: threading.Event) -> None:
    with contextlib.suppress(OSError, EOFError):
        while not stop.is_set():
            _echo(tally, b"thread", 1)


@row("a method raises an exception whose unpickling fails", source="manager")
def odd_exception_in_a_method(subject: Subject) -> None:
    with registered.manager(subject) as manager:
        tally = manager.Tally()
        try:
            tally.fail_oddly()
        except Exception as error:
            check("seventeen and eighteen" in str(error), f"{type(error).__name__}: {error}")
        else:
            message = "no error"
            raise Wrong(message)
        same(tally.add(), 1)


# -- servers --------------------------------------------------------------------------------------


@row(
    "the parent of a manager is killed, whose server is",
    source="manager",
    alone=True,
    cases=["in use", "starting"],
    limit=20.0,
)
def manager_outlives_parent(subject: Subject, state: str) -> None:
    with Victim(subject, hold_a_manager, state) as victim:
        victim.ready()
        victim.kill()
        nothing_left(SOON if state == "in use" else PATIENCE)
    # The folder of the standard library's forkserver, which a killed process leaves.
    for folder in Path(tempfile.gettempdir()).glob("pymp-*"):
        shutil.rmtree(folder)


def hold_a_manager(subject: Subject, state: str) -> None:
    """Use a manager until killed."""
    with _manager(subject) as manager:
        if state == "in use":
            manager._number_of_objects()  # which the server must be asked for
        Victim.say_ready()
        Victim.wait_for_the_end()


@row(
    "the server is killed",
    source="manager",
    cases=["in the middle of a call", "between two calls"],
)
def manager_server_killed(subject: Subject, case: str) -> None:
    manager = registered.manager(subject)
    manager.start()
    tally = manager.Tally()
    same(tally.add(), 1)
    server = manager._process

    def call() -> str:
        try:
            if case == "between two calls":
                os.kill(server.pid, signal.SIGKILL)
                server.join()
                tally.add()
            else:
                tally.die()
        except (OSError, EOFError) as error:
            return type(error).__name__
        return "no error"

    found = _in_time(call)
    check(found != "no error", "the call says nothing of it")
    if subject.is_garrison:
        same(found, "ManagerLost")
    _in_time(lambda: manager.shutdown() or True)


@row("a client has another key than the server", source="manager", fine=["*"])
def wrong_key(subject: Subject) -> None:
    manager = registered.manager(subject, ("127.0.0.1", 0), KEY)
    with manager:
        other = registered.manager(subject, manager.address, b"another key, just as long")
        try:
            other.connect()
        except AuthenticationError:
            pass
        else:
            message = "it is let in"
            raise Wrong(message)
        same(manager.Tally().add(), 1)


@row("a manager's address is another's already", source="manager")
def address_in_use(subject: Subject) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        try:
            registered.manager(subject, taken.getsockname(), KEY).start()
        except OSError as error:
            port = str(taken.getsockname()[1])
            check(port in str(error), f"the address is not named: {error}")
        else:
            message = "no error"
            raise Wrong(message)


KNOCKS = {"say nothing": b"", "say one byte": b"\0", "say half a greeting": b"\0\0\0\x20half of it"}


@row(
    "200 connect to the server and",
    source="#45",
    cases=list(KNOCKS),
)
def silent_connections(subject: Subject, case: str) -> None:
    manager = registered.manager(subject, ("127.0.0.1", 0), KEY)
    with manager, contextlib.ExitStack() as stack:
        same(manager.Tally().add(), 1)
        threads = f"/proc/{manager._process.pid}/task"
        before = len(os.listdir(threads))
        for _ in range(200):
            silent = stack.enter_context(socket.create_connection(manager.address, PATIENCE))
            silent.sendall(KNOCKS[case])
        honest = registered.manager(subject, manager.address, KEY)
        _in_time(lambda: honest.connect() or True)
        same(honest.Tally().add(), 1)
        more = len(os.listdir(threads)) - before
        check(more <= 2, f"{more} threads more in the server")


@row(
    "the server of a SharedMemoryManager is killed: its blocks",
    source="manager",
    cases=["here", "afterwards"],
    alone=True,
)
def shared_memory_server_killed(subject: Subject, case: str) -> None:
    managers = importlib.import_module(f"{subject.name}.managers")
    context = subject.module.get_context(subject.method)
    manager = managers.SharedMemoryManager(ctx=context)
    manager.start()
    block = manager.SharedMemory(1000)
    block.buf[:5] = b"hello"
    server = manager._process
    os.kill(server.pid, signal.SIGKILL)
    server.join()
    if case == "here":
        same(bytes(block.buf[:5]), b"hello")
    block.close()
    _in_time(lambda: manager.shutdown() or True)


# -- folders --------------------------------------------------------------------------------------

ONLY = "it keeps nothing in folders"


@row(
    "a manager's folder cannot be had",
    source="manager",
    cases=["it is a file", "its store is of a newer version", "another server has it"],
    only_garrison=ONLY,
)
def folder_not_to_be_had(subject: Subject, case: str) -> None:
    folder = _temporary("store")
    with contextlib.ExitStack() as stack:
        words = _spoil(subject, stack, folder, case)
        try:
            manager = _manager(subject, path=folder)
        except OSError as error:
            check(words in str(error), f"{words} is not named: {error}")
        else:
            manager.shutdown()
            message = "no error"
            raise Wrong(message)


def _temporary(name: str) -> str:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return f"{folder}/{name}"


def _spoil(subject: Subject, stack: contextlib.ExitStack, folder: str, case: str) -> str:
    """Make a folder impossible to use; return what the error is to name."""
    if case == "it is a file":
        Path(folder).write_text("just a file")
        return folder
    if case == "another server has it":
        stack.enter_context(_manager(subject, path=folder))
        return "is served by process"
    with _manager(subject, path=folder) as manager:
        manager.dict("stock", apples=3)
    del manager
    gc.collect()  # else this process would go on with what it has open
    data = Path(folder, "data.mdb")
    # A record of LMDB's: sizes of value (its sum included) and key, nine zero bytes, the version.
    before = struct.pack("<HHHH9x", 24, 0, 0, 9)
    text = data.read_bytes()
    at = text.find(before) + len(before)
    check(at >= len(before), "the version is not where this scenario believes it to be")
    present = text[at : at + 4]
    data.write_bytes(text.replace(before + present, before + struct.pack("<I", 99)))
    return "99"


@row(
    "there is no room left for a manager's containers",
    source="manager",
    cases=["the disk is full", "its size is reached", "no memory can be reserved"],
    only_garrison="its containers are objects of the server's",
)
def no_room(subject: Subject, case: str) -> None:
    wrapper = unshared("--mount") if case == "the disk is full" else ()
    with Victim(subject, fill_up, case, wrapper=wrapper) as victim:
        same(victim.line(), "ok")
        same(victim.ended(), 0)


def fill_up(subject: Subject, case: str) -> None:
    """Write until there is no room, then look whether all is there, and go on with less."""
    folder = _temporary("store")
    if case == "the disk is full":
        Path(folder).mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", folder], check=True
        )
    path = None if case == "no memory can be reserved" else folder
    size = 4 << 20 if case == "its size is reached" else None
    with _manager(subject, path=path, size=size) as manager:
        accounts, blocks = manager.dict(a=10, b=0), manager.list()
        if case == "no memory can be reserved":
            refuse_fallocate(errno.ENOSPC)
        written = _fill(subject, manager, accounts, blocks)
        same(dict(accounts), {"a": 10 - written, "b": written})
        same(list(blocks), [bytes(100_000)] * written)
        blocks.clear()
        with manager.transaction():
            blocks.append("there is room again")
            accounts.update(a=10, b=0)
        same(list(blocks), ["there is room again"])
    if case == "the disk is full":
        subprocess.run(["umount", "--lazy", folder], check=True)
    Victim.say("ok")


def _fill(subject: Subject, manager: Any, accounts: Any, blocks: Any) -> int:
    for written in range(10_000):
        try:
            with manager.transaction():
                accounts["a"] -= 1
                blocks.append(bytes(100_000))
                accounts["b"] += 1
        except subject.module.SharedMemoryFull as error:
            check(str(error), "no word of what is full")
            return written
    message = "there is always room"
    raise Wrong(message)
