"""Objects of a server: made, called, sent on, freed; and the effects of deaths."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError, ProcessError
from typing import Any

import pytest

import garrison
from garrison._os import process_watch
from garrison.errors import ManagerLost
from garrison.manager import BaseManager, RemoteError
from waiting import wait_until

from . import registered

METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return garrison.get_context(request.param)


@pytest.fixture
def manager(context: Any) -> Iterator[Any]:
    with registered.Manager(ctx=context) as started:
        yield started
    vars(started).clear()  # pytest keeps it for a while


def test_methods_are_called_and_return(manager: Any) -> None:
    tally = manager.Tally(5)
    assert tally.add() == 6
    assert tally.add(number=4) == 10
    assert tally.give({"a": [1, 2]}) == {"a": [1, 2]}
    assert tally.give(b"x" * (3 << 20)) == b"x" * (3 << 20)


def test_unexposed_method_is_refused(manager: Any) -> None:
    tally = manager.Tally()
    assert not hasattr(tally, "_hidden")
    with pytest.raises(RemoteError, match="not in exposed"):
        tally._callmethod("_hidden")
    with pytest.raises(RemoteError, match="not in exposed"):
        tally._callmethod("nothing")


def test_an_exception_arrives_with_its_traceback(manager: Any) -> None:
    tally = manager.Tally()
    with pytest.raises(ValueError, match="bad luck") as caught:
        tally.fail("bad luck")
    assert "in fail" in str(caught.value.__cause__)
    with pytest.raises(RemoteError, match="Odd"):
        tally.fail_oddly()


def test_unpicklable_result_is_a_remote_error(manager: Any) -> None:
    tally = manager.Tally()
    with pytest.raises(RemoteError, match="Unserializable"):
        tally.lock()
    with pytest.raises(Exception, match="lock"):
        tally.give(threading.Lock())
    assert tally.add() == 1


def test_an_unknown_type(manager: Any) -> None:
    with pytest.raises(RemoteError, match="Tally"):
        manager._create("Nothing")


def test_results_with_a_typeid_are_proxies(manager: Any) -> None:
    child = manager.Tally().child()
    assert child.add(1) == 101
    assert child.child().add(2) == 102


def test_proxy_is_used_in_a_child(manager: Any, context: Any) -> None:
    tally = manager.Tally()
    child = context.Process(target=registered.add_to, args=(tally, 10))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert tally.add(0) == 10


def test_iterator_proxy_is_used_in_a_child(manager: Any, context: Any) -> None:
    results = context.Queue()
    child = context.Process(target=registered.iterate, args=(manager.numbers(), results))
    child.start()
    assert results.get(timeout=20) == [0, 1, 2, 3, 4]
    child.join()


def test_a_result_proxy_in_a_child_needs_no_manager(manager: Any, context: Any) -> None:
    tallies, done = context.Queue(), context.Queue()
    child = context.Process(target=registered.take_and_add, args=(tallies, done))
    child.start()
    tallies.put(manager.Tally(1).child())  # let go of here as soon as it is written
    gc.collect()
    assert done.get(timeout=20) == 107
    child.join()
    wait_until(lambda: manager._number_of_objects() == 0)


def test_threads_of_a_client_do_not_wait_for_each_other(manager: Any) -> None:
    gate = manager.Gate()
    waiting = threading.Thread(target=gate.wait)
    waiting.start()
    gate.open()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_thread_has_its_own_thread_in_the_server(manager: Any) -> None:
    tally = manager.Tally()
    mine = {tally.thread() for _ in range(5)}
    others: queue.Queue[int] = queue.Queue()
    thread = threading.Thread(target=lambda: others.put(tally.thread()))
    thread.start()
    thread.join()
    assert len(mine) == 1
    assert others.get() not in mine


def test_object_is_freed_with_its_last_proxy(manager: Any) -> None:
    tally = manager.Tally()
    shelf = manager.Shelf()
    shelf.put("tally", tally)
    del tally
    gc.collect()
    assert manager._number_of_objects() == 2
    assert shelf.get("tally").add(3) == 3
    shelf.clear()
    wait_until(lambda: manager._number_of_objects() == 1)
    del shelf
    assert manager._number_of_objects() == 0


def test_object_is_freed_when_its_last_client_is_killed(manager: Any, context: Any) -> None:
    tally = manager.Tally()
    child = context.Process(target=hold_for_ever, args=(tally,))
    child.start()
    while tally.add(0) != 1:
        pass
    del tally
    gc.collect()
    assert manager._number_of_objects() == 1
    child.kill()
    child.join()
    wait_until(lambda: manager._number_of_objects() == 0)


def hold_for_ever(tally: Any) -> None:
    tally.add()
    signal.pause()


def test_singleton_is_one_object_for_all_proxies(manager: Any) -> None:
    first, second = manager.the_tally(), manager.the_tally()
    assert first.add(1) == 1001
    assert second.add(1) == 1002
    assert manager._number_of_objects() == 1


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0)])
def test_manager_is_reached_by_its_address(context: Any, address: Any) -> None:
    key = os.urandom(32)
    with registered.Manager(address, key, ctx=context) as manager:
        tally = manager.the_tally()
        child = context.Process(target=registered.visit, args=(manager.address, key))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert tally.add(0) == 1005


def test_wrong_key_is_refused() -> None:
    with registered.Manager(("127.0.0.1", 0), b"the right key, long enough") as manager:
        wrong = registered.Client(manager.address, b"a wrong key, long enough")
        with pytest.raises(AuthenticationError, match="key"):
            wrong.connect()
        assert manager.Tally().add() == 1


def test_address_in_use_is_an_error() -> None:
    with registered.Manager(("127.0.0.1", 0)) as manager:
        second = registered.Manager(manager.address)
        with pytest.raises(OSError, match=str(manager.address[1])):
            second.start()


def test_an_open_address_needs_a_key() -> None:
    with pytest.raises(ValueError, match=r"key=.*127\.0\.0\.1"):
        registered.Manager(("0.0.0.0", 0)).start()  # noqa: S104 - it is refused


def test_address_without_a_server_is_an_error() -> None:
    with pytest.raises(OSError, match=r".*"):
        registered.Client(("127.0.0.1", 9), b"key").connect()


def test_manager_refuses_calls_in_the_wrong_state() -> None:
    manager = registered.Manager()
    manager.start()
    with pytest.raises(ProcessError, match="Already started"):
        manager.start()
    manager.shutdown()
    with pytest.raises(ProcessError, match="shut down"):
        manager.start()
    manager.join()


def test_initializer_runs_in_the_server() -> None:
    manager = registered.Manager()
    with pytest.raises(TypeError, match="callable"):
        manager.start(1)  # type: ignore[arg-type]
    seen = garrison.Value("i", 0)
    manager.start(set_to_seven, (seen,))
    assert seen.value == 7
    manager.shutdown()


def set_to_seven(value: Any) -> None:
    value.value = 7


def test_failed_initializer_is_an_error_of_start(capfd: pytest.CaptureFixture[str]) -> None:
    manager = registered.Manager()
    with pytest.raises(EOFError):
        manager.start(fail)
    manager._process.join()
    assert "on purpose" in capfd.readouterr().err


def fail() -> None:
    raise RuntimeError("on purpose")


def test_killed_server_raises_manager_lost(manager: Any) -> None:
    tally = manager.Tally()
    tally.add()
    os.kill(manager._process.pid, signal.SIGKILL)
    manager._process.join()
    with pytest.raises(ManagerLost):
        tally.add()


def test_server_killed_by_a_call_raises_manager_lost(manager: Any) -> None:
    tally = manager.Tally()
    with pytest.raises(ManagerLost, match="may or may not"):
        tally.die()


def test_the_server_ends_with_its_owner(context: Any) -> None:
    told = context.Queue()
    owner = context.Process(target=registered.own_a_manager, args=(told,))
    owner.start()
    server = told.get(timeout=20)
    owner.kill()
    owner.join()
    assert process_watch.wait_for_exit(server, 5.0)


def test_sigterm_ends_a_server_in_order() -> None:
    manager: Any = registered.Manager()
    manager.start()
    manager.Tally().add()
    os.kill(manager._process.pid, signal.SIGTERM)
    manager._process.join(10)
    assert manager._process.exitcode == 0
    manager.shutdown()


def test_proxies_work_in_threads_and_after_a_fork(manager: Any) -> None:
    tally = manager.Tally()
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            tally.add(0)

    thread = threading.Thread(target=call)
    thread.start()
    fork = multiprocessing.get_context("fork")
    for _ in range(5):
        child = fork.Process(target=registered.add_to, args=(tally, 3))
        child.start()
        child.join()
        assert child.exitcode == 0
    stop.set()
    thread.join()
    assert tally.add(0) == 15


def test_xmlrpc_serializer_is_supported() -> None:
    key = os.urandom(32)
    with registered.Manager(("127.0.0.1", 0), key, serializer="xmlrpclib") as manager:
        tally = manager.Tally()
        assert tally.give((1, "two", None, b"three")) == [1, "two", None, b"three"]
        with pytest.raises(TypeError, match="marshal"):
            tally.give(time.sleep)
    with pytest.raises(ValueError, match="xmlrpclib"):
        BaseManager(serializer="json")


def test_get_server_serves_in_this_process() -> None:
    key = os.urandom(32)
    server = registered.Manager(("127.0.0.1", 0), key).get_server()
    served = threading.Thread(target=server.run)
    served.start()
    client: Any = registered.Client(server.address, key)
    client.connect()
    tally = client.the_tally()
    before = tally.add(0)
    assert tally.add(2) == before + 2
    del tally
    client._client.shutdown()
    served.join(10)
    assert not served.is_alive()
