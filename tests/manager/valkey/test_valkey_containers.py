"""Containers of `Manager("valkey://...")`: the tests of a server's containers, over two clients."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from manager import (
    processes,
    test_container_pickles,
    test_container_transfer,
    test_iteration,
    test_remote_containers,
    test_remote_transactions,
)
from manager.processes import RemoteProcess
from valkey_server import ValkeyServer
from waiting import wait_until

CONTAINERS = (
    "local_and_remote_names_are_one_container",
    "name_has_one_kind_of_container",
    "remote_dict_takes_keys_of_all_kinds",
    "remote_errors_are_those_of_the_plain_types",
    "remote_values_of_50_megabytes",
    "remote_update_with_is_atomic",
    "remote_iteration_is_a_snapshot",
    "many_threads_share_a_remote_client",
    "remote_get_many_is_of_one_moment",
)
TRANSACTIONS = (
    "remote_transaction_is_all_or_nothing",
    "remote_transaction_belongs_to_its_thread",
    "local_and_remote_transactions_exclude_each_other",
    "many_local_and_remote_transactions_lose_nothing",
    "transaction_of_a_killed_client_is_undone",
    "transaction_is_not_inherited_by_a_forked_child",
    "queue_wakes_local_and_remote_waiters",
    "remote_queue_keeps_its_timeouts",
    "claims_of_a_killed_client_are_returned",
    "claim_of_a_living_client_is_kept",
)
TRANSFER = (
    "container_is_an_argument_of_a_process",
    "container_is_sent_through_a_queue",
    "container_is_sent_through_a_managers_queue",
    "stored_reference_is_the_same_container_for_all",
)
"""The others count containers in a process of garrison's, or are about a connection to one."""
for _module, _names in (
    (test_remote_containers, CONTAINERS),
    (test_remote_transactions, TRANSACTIONS),
    (test_container_transfer, TRANSFER),
    (test_iteration, ("dict_may_change_during_iteration",)),
):
    for _name in _names:
        globals()[f"test_{_name}"] = vars(_module)[f"test_{_name}"]
globals().update({n: e for n, e in vars(test_container_pickles).items() if n.startswith("test_")})
context = test_container_transfer.context


@pytest.fixture(scope="module")
def running() -> Iterator[ValkeyServer]:
    with ValkeyServer() as started:
        yield started


@pytest.fixture
def url(running: ValkeyServer) -> str:
    running.command("FLUSHALL")
    return running.url("lease=1")


@pytest.fixture
def local_manager(url: str) -> Iterator[Any]:
    with garrison.Manager(url) as manager:
        yield manager
    vars(manager).clear()  # pytest keeps it for a while


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    """Another client: this URL has connections of its own."""
    with garrison.connect(f"{url}&timeout=9") as connected:
        yield connected
    vars(connected).clear()


@pytest.fixture
def other(url: str) -> Iterator[RemoteProcess]:
    with RemoteProcess() as process:
        process.do(processes.connect, url)
        yield process


@pytest.fixture
def manager(client: Any) -> Any:
    return client


def test_interrupted_get_takes_no_item(
    running: ValkeyServer, local_manager: Any, other: RemoteProcess
) -> None:
    jobs = local_manager.Queue("jobs")
    other.do(processes.get, "Queue", "jobs")
    waiters = f"{{garrison}}:s:w:{jobs._container_id}"
    for method in ("get", "claim"):
        if method == "claim":
            other.begin(test_remote_transactions.claim)
        else:
            other.begin(processes.call, "get")
        wait_until(lambda: running.command("EXISTS", waiters) == 1)
        other.interrupt()
        with pytest.raises(KeyboardInterrupt):
            other.result()
        jobs.put(1)
        assert jobs.get(timeout=20) == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_container_lives_as_long_as_a_process_uses_it(
    running: ValkeyServer, local_manager: Any, method: str
) -> None:
    def is_there() -> bool:
        backend.renew()
        backend.collect_garbage()
        return bool(running.command("EXISTS", head))

    context, backend = garrison.get_context(method), local_manager.store.backend
    told = context.Queue()
    shared = local_manager.dict(a=1)
    head = f"{{garrison}}:s:h:{shared._container_id}"
    hold = test_container_transfer.hold_until_killed
    child = context.Process(target=hold, args=(shared, told))
    child.start()
    assert told.get(timeout=20) == 1
    del shared
    gc.collect()
    assert is_there()
    child.kill()
    child.join()
    wait_until(lambda: not is_there())
