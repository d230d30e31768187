"""Locks on a Valkey server: the tests of a manager's locks, and what only a lease has."""

from __future__ import annotations

import gc
import pickle
import time
from typing import Any

import pytest

import garrison
from garrison.errors import LeaseLost
from manager import processes, test_locks, test_remote_locks
from manager.processes import RemoteProcess, remote_process_at, thread, wait_for_waiters
from valkey_server import ValkeyServer
from waiting import wait_until

from .lock_servers import LockServer

SAME_AS_IN_SHARED_MEMORY = (
    "acquired_lock_is_not_acquired_again",
    "barrier_lets_all_parties_pass",
    "condition_uses_the_given_lock",
    "lock_is_released_by_another_process",
    "release_without_holding_raises_as_in_threading",
    "workers_acquire_locks_of_a_manager",
)
SAME_AS_REMOTE = (
    "lock_passes_from_client_to_client",
    "leases_and_waits_of_a_killed_client_end",
    "remote_lock_is_released_by_another_thread",
    "remote_lock_is_released_by_another_process",
    "remote_rlock_is_released_by_its_owner_only",
    "semaphore_counts_permits_of_all_clients",
    "event_is_shared_by_all_clients",
    "condition_notifies_other_processes",
    "a_condition_waits_for_a_predicate",
    "condition_uses_the_given_remote_lock",
    "a_killed_waiter_of_a_condition_is_not_notified",
    "barrier_joins_processes",
    "barrier_breaks_when_its_action_raises",
    "barrier_breaks_when_a_party_is_killed",
    "interrupted_acquire_leaves_the_lock_free",
    "interrupts_at_any_moment_leave_no_lease",
    "interrupted_wait_holds_its_lock_again",
    "interrupted_wait_for_an_event_ends",
    "name_has_one_kind_of_lock",
    "remote_locks_are_proxies_of_the_standard_library",
    "unnamed_lock_is_sent_to_a_child",
)
"""The others are about a lease that ends with its connection, or about a server of garrison's."""
for _module, _names in (
    (test_locks, SAME_AS_IN_SHARED_MEMORY),
    (test_remote_locks, SAME_AS_REMOTE),
):
    for _name in _names:
        globals()[f"test_{_name}"] = vars(_module)[f"test_{_name}"]
LOCKS = test_remote_locks.LOCKS


# -- leases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lease_outlives_its_connection(client: Any, kind: str) -> None:
    door = getattr(client, kind)("door")
    door.acquire()
    processes.break_all_connections()
    assert not client.Lock("other").locked()
    door.release()
    assert door.acquire(False)
    door.release()


def test_waiters_go_on_waiting_after_a_broken_connection(server: LockServer, client: Any) -> None:
    door, start = client.Lock("door"), client.Event("start")
    with remote_process_at(server, "Lock", "door") as other, RemoteProcess() as setter:
        setter.do(processes.connect, server.address)
        setter.do(processes.get, "Event", "start")
        other.do(processes.call, "acquire")
        with thread(door.acquire), thread(start.wait):
            wait_for_waiters(door)
            wait_for_waiters(start)
            processes.break_all_connections()
            other.do(processes.call, "release")
            setter.do(processes.call, "set")
        assert door.fence > 0
        door.release()


@pytest.mark.parametrize("kind", LOCKS)
def test_lease_of_a_stopped_process_ends_and_its_release_says_so(
    server: LockServer, client: Any, kind: str
) -> None:
    mine = getattr(client, kind)("door")
    with remote_process_at(server, kind, "door") as other:
        assert other.do(processes.call, "acquire")
        fence = other.do(processes.get_attribute, "fence")
        other.stop()
        assert mine.acquire(timeout=20)
        assert mine.fence > fence
        other.resume()
        with pytest.raises(LeaseLost, match="gave no sign of life"):
            other.do(processes.call, "release")
        assert not other.do(processes.call, "acquire", False)
        mine.release()
        assert other.do(processes.call, "acquire", True, 20)


def test_lease_of_a_busy_process_is_renewed(server: LockServer, client: Any) -> None:
    mine = client.Lock("door")
    with remote_process_at(server, "Lock", "door") as other:
        other.do(processes.call, "acquire")
        assert not mine.acquire(timeout=1.5)
        other.do(processes.call, "release")
        assert mine.acquire(timeout=20)


def test_locks_of_a_process_that_ends_are_free_at_once(valkey: ValkeyServer) -> None:
    with garrison.connect(valkey.url("lease=600")) as client:
        child = garrison.get_context("fork").Process(target=client.Lock("door").acquire)
        child.start()
        child.join()
        assert client.Lock("door").acquire(timeout=20)
        client.Lock("door").release()
    vars(client).clear()


def test_fences_grow_when_the_server_comes_back_empty() -> None:
    with ValkeyServer() as server, garrison.connect(server.url()) as client:
        door, waiting = client.Lock("door"), client.Lock("other")
        door.acquire()
        before = door.fence
        waiting.acquire()
        with thread(lambda: client.Lock("other").acquire()):
            wait_for_waiters(waiting)
            server.restart()
            with pytest.raises(LeaseLost):
                door.release()
        assert door.acquire(False)
        assert door.fence > before
        assert not waiting.acquire(False)
        del door, waiting
    vars(client).clear()


def test_unnamed_lock_is_forgotten_with_its_last_user(valkey: ValkeyServer, client: Any) -> None:
    door = client.Lock()
    door.acquire()
    again = pickle.loads(pickle.dumps(door))
    assert not again.acquire(False)
    del door
    again.release()
    assert valkey.command("KEYS", "*:users:#*")
    del again
    gc.collect()
    wait_until(lambda: not valkey.command("KEYS", "*:users:#*"))
    (kept,) = valkey.command("KEYS", "*:lock:#*")
    assert 0 < valkey.command("TTL", kept) <= 60  # its pickle could still be on its way


def test_what_a_killed_process_has_used_is_cleaned_up_by_others(
    server: LockServer, valkey: ValkeyServer, client: Any
) -> None:
    with remote_process_at(server, "Lock", "door") as other:
        other.do(processes.call, "acquire")
        assert len(valkey.command("KEYS", "*:used:*")) == 1
        mine = client.Lock("mine")
        assert len(valkey.command("KEYS", "*:used:*")) == 2
        other.kill()
        wait_until(lambda: len(valkey.command("KEYS", "*:used:*")) == 1)
    assert not mine.locked()
    assert not client.Lock("door").locked()


def test_locks_are_released_on_a_full_server(valkey: ValkeyServer, client: Any) -> None:
    door = client.Lock("door")
    door.acquire()
    valkey.command("CONFIG", "SET", "maxmemory", 1)
    try:
        door.release()
        assert door.acquire(timeout=1)
        door.release()
    finally:
        valkey.command("CONFIG", "SET", "maxmemory", 0)


# -- under load -----------------------------------------------------------------------------------


def take_turns(url: str, until: float) -> None:
    """Hold the lock again and again; note each time, with its fence, in a list."""
    with garrison.connect(url) as client:
        door, noted = client.Lock("door"), client.list(name="noted")
        while time.monotonic() < until:
            with door:
                noted.append(("in", door.fence))
                noted.append(("out", door.fence))


@pytest.mark.watchdog(90)
def test_killed_holders_under_load_never_leave_two_holders(server: LockServer, client: Any) -> None:
    deaths = 4
    children = []
    context = garrison.get_context("fork")
    until = time.monotonic() + 60

    def begin() -> None:
        children.append(context.Process(target=take_turns, args=(server.address, until)))
        children[-1].start()

    noted = client.list(name="noted")
    for _ in range(3):
        begin()
    for _ in range(deaths):
        length = len(noted)
        wait_until(lambda: len(noted) > length + 20)
        children[0].kill()
        children.pop(0).join()
        begin()
    length = len(noted)
    wait_until(lambda: len(noted) > length + 20)
    for child in children:
        child.kill()
        child.join()
    _check_turns(list(noted), deaths + len(children))


def _check_turns(turns: list[tuple[str, int]], deaths: int) -> None:
    """Each fence is larger than the one before, and who came in has left, or was killed."""
    lost, inside, latest = 0, 0, 0
    for what, fence in turns:
        if what == "in":
            lost += bool(inside)
            assert fence > latest
            inside = latest = fence
        else:
            assert fence == inside
            inside = 0
    assert lost <= deaths
