"""What goes wrong with a Valkey server, and what a program is told."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison.errors import ContainerGone, LinkBroken, ManagerLost, StoreFull, ValueUnreadable
from garrison.manager.valkey._connection import Script, get_link
from garrison.manager.valkey._wire import Wire
from manager.processes import thread
from valkey_server import (
    HOST,
    ValkeyServer,
    cluster,
    free_port,
    primary_with_replica,
    require_server,
    server_with_password,
    server_with_tls,
)
from waiting import wait_until

RIGHTS = ("~{garrison}:*", "+@all", "-@dangerous", "+info")
"""As `docs/valkey.md` gives them."""


@contextlib.contextmanager
def connected(url: str, **options: Any) -> Iterator[Any]:
    manager = garrison.Manager(url, **options)
    with manager:
        yield manager
    vars(manager).clear()  # pytest keeps it for a while


# -- a server that cannot be used -----------------------------------------------------------------


def test_no_server_is_refused_as_for_any_manager() -> None:
    require_server()  # and its client library
    place = f"{HOST}:{free_port()}"
    with pytest.raises(ConnectionRefusedError, match=f"valkey://{place}"):
        garrison.Manager(f"valkey://{place}")
    with pytest.raises(FileNotFoundError, match="/nothing/there"):
        garrison.Manager("valkey+unix:///nothing/there")


def test_a_wrong_password_is_told_with_a_remedy() -> None:
    with server_with_password("right") as server:
        with pytest.raises(garrison.AuthenticationError, match="asks for a password"):
            garrison.Manager(server.url())
        for login in (":wrong", "anna:right"):
            with pytest.raises(garrison.AuthenticationError, match="does not know") as failed:
                garrison.Manager(server.url(login=login))
            assert "wrong" not in str(failed.value)
        with connected(server.url(login=":right")) as by_url:
            assert by_url.dict(a=1) == {"a": 1}
        with connected(server.url(), key="right") as by_key:
            assert by_key.dict(a=1) == {"a": 1}
    with ValkeyServer() as server:
        with pytest.raises(garrison.AuthenticationError, match="has no password for this user"):
            garrison.Manager(server.url(login=":right"))


def test_a_server_that_evicts_is_refused() -> None:
    with ValkeyServer(("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")) as server:
        with pytest.raises(ValueError, match="maxmemory-policy, which is allkeys-lru, to noevict"):
            garrison.Manager(server.url())


def answer_as_version(listener: socket.socket, version: bytes) -> None:
    """Be a server that knows only one command."""
    end, _ = listener.accept()
    with end, end.makefile("rb") as requests:
        for line in requests:
            if line.strip() == b"HELLO":
                facts = (b"server", b"redis", b"version", version, b"proto", b"mode")
                end.sendall(
                    b"*8\r\n"
                    + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in facts[:4])
                    + b"$4\r\nrole\r\n$6\r\nmaster\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
                )
            elif line.startswith(b"*") and line != b"*2\r\n":
                end.sendall(b"+OK\r\n")


def test_an_old_server_is_refused_by_its_name() -> None:
    require_server()  # and its client library
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with (
            thread(lambda: answer_as_version(listener, b"6.2.14")),
            pytest.raises(OSError, match="is redis 6.2.14: garrison needs Valkey, or Redis 7"),
        ):
            garrison.Manager(f"valkey://{HOST}:{port}")


def test_a_user_without_a_right_is_told_which() -> None:
    with ValkeyServer() as server:
        server.command("ACL", "SETUSER", "anna", "on", ">word", *RIGHTS)
        server.command("ACL", "SETUSER", "bert", "on", ">word", "~other:*", "+@all")
        with connected(server.url(login="anna:word")) as manager:
            manager.dict("stock", apples=1)
            with manager.Lock("door"), manager.transaction():
                manager.dict("stock")["apples"] += 1
            assert manager.dict("stock") == {"apples": 2}
        with (
            connected(server.url(login="bert:word")) as manager,
            pytest.raises(PermissionError, match="user 'bert' may not do .* on the key '{garri"),
        ):
            manager.dict("stock")


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("harm",)


def test_a_manager_without_pickles_stores_and_reads_plain_values_only(capsys: Any) -> None:
    with ValkeyServer() as server, connected(server.url()) as trusting:
        with connected(server.url("pickle=no")) as careful:
            plain = careful.dict("stock", apples=[1, 2.5, "three"])
            assert plain == trusting.dict("stock") == {"apples": [1, 2.5, "three"]}
            with pytest.raises(TypeError, match="Harmful"):
                plain["harm"] = Harmful()
            trusting.dict("stock")["harm"] = Harmful()
            with pytest.raises(ValueUnreadable):
                _ = plain["harm"]
            assert capsys.readouterr().out == ""


# -- a server that is full, read-only, gone or empty ----------------------------------------------


def test_a_full_server_raises_and_keeps_what_was_acknowledged() -> None:
    with ValkeyServer() as server, connected(server.url()) as manager:
        shared, confirmed = manager.dict(), 0
        server.command("CONFIG", "SET", "maxmemory", 8 << 20)
        with pytest.raises(StoreFull, match="raise its maxmemory"):
            while True:
                shared[confirmed] = bytes(100_000)
                confirmed += 1
        assert confirmed > 10
        assert len(shared) == confirmed
        shared.clear()
        wait_until(lambda: _takes(shared))


def _takes(shared: Any) -> bool:
    try:
        shared["again"] = 1
    except StoreFull:
        return False
    return True


def test_a_replica_is_not_written_to() -> None:
    with primary_with_replica() as (primary, replica):
        with pytest.raises(ManagerLost, match="is a replica"):
            garrison.Manager(replica.url("timeout=0.2"))
        with connected(f"valkey://{replica.place},{primary.place}") as manager:
            manager.dict("stock", apples=1)
            assert primary.info("keyspace")


def test_a_server_that_becomes_read_only_is_waited_for() -> None:
    with (
        primary_with_replica() as (primary, replica),
        connected(primary.url("timeout=0.3")) as manager,
    ):
        shared = manager.dict("stock", apples=1)
        primary.command("REPLICAOF", HOST, replica.port)
        with pytest.raises(ManagerLost, match="READONLY .* it was not carried out"):
            shared["pears"] = 2
        primary.command("REPLICAOF", "NO", "ONE")
        shared["pears"] = 3
        assert shared == {"apples": 1, "pears": 3}


def test_a_server_that_is_gone_is_named_and_its_return_is_noticed() -> None:
    with ValkeyServer() as server, connected(server.url("timeout=0.3")) as manager:
        shared, door = manager.dict("stock", apples=1), manager.Lock("door")
        server.kill()
        uses: list[Any] = [lambda: shared["apples"], lambda: door.acquire(timeout=1)]
        for use in uses:
            with pytest.raises(ManagerLost, match=f"valkey://{server.place}"):
                use()
        server.start()
        with pytest.raises(ContainerGone):
            _ = shared["apples"]
        assert manager.dict("stock", apples=5) == {"apples": 5}
        assert door.acquire(timeout=1)
        door.release()


def test_a_short_outage_is_not_noticed() -> None:
    with ValkeyServer() as server, connected(server.url()) as manager:
        start = manager.Event("start")
        server.kill()
        with thread(start.is_set):
            server.start()
        assert not start.is_set()


# -- a primary that is lost -----------------------------------------------------------------------


class Writer(threading.Thread):
    """Writes until a write fails; knows what was confirmed."""

    def __init__(self, shared: Any) -> None:
        super().__init__()
        self.confirmed = 0
        self.failure: BaseException | None = None
        self._shared = shared

    def run(self) -> None:
        name = self.name
        try:
            while True:
                self._shared[name] = self.confirmed + 1
                self.confirmed += 1
        except BaseException as error:
            self.failure = error


def test_nothing_that_a_replica_has_confirmed_is_lost_with_the_primary() -> None:
    options = "wait=1&wait_timeout=0.5&timeout=5"
    with primary_with_replica() as (primary, replica):
        url = f"valkey://{primary.place},{replica.place}/0?{options}"
        with connected(url) as manager:
            shared = manager.dict("counts")
            writers = [Writer(shared) for _ in range(4)]
            for writer in writers:
                writer.start()
            wait_until(lambda: min(writer.confirmed for writer in writers) > 50)
            primary.kill()
            replica.command("REPLICAOF", "NO", "ONE")
            for writer in writers:
                writer.join()
                assert isinstance(writer.failure, ManagerLost)
        with connected(f"valkey://{primary.place},{replica.place}") as later:
            found = dict(later.dict("counts"))
            for writer in writers:
                assert found[writer.name] in {writer.confirmed, writer.confirmed + 1}
            with later.Lock("door"):
                later.dict("counts")["new"] = 1


def test_a_write_without_enough_replicas_says_so() -> None:
    with ValkeyServer() as server:
        with (
            connected(server.url("wait=1&wait_timeout=0.05")) as manager,
            pytest.raises(ManagerLost, match="only 0 of 1 replicas confirmed that within 0.05 s"),
        ):
            manager.dict("stock", apples=1)


def test_a_write_is_on_the_disk_at_its_return_where_the_server_can_say_so() -> None:
    with ValkeyServer(("appendonly", "yes")) as server:
        if server.version < (7, 2):
            with pytest.raises(OSError, match="waitaof=... needs Valkey, or Redis 7.2 or later"):
                garrison.Manager(server.url("waitaof=1,0"))
            return
        with connected(server.url("waitaof=1,0")) as manager:
            assert manager.dict("stock", apples=1) == {"apples": 1}


def test_a_repeated_write_waits_for_replicas_although_it_finds_all_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once = Script("once", "return redis.call('SETNX', KEYS[1], 1)", idempotent=True)
    ask_many = Wire.ask_many

    def cut(wire: Wire, commands: Any) -> Any:
        monkeypatch.setattr(Wire, "ask_many", ask_many)
        wire.ask_many(commands[:-1])  # all but WAIT
        wire.close()
        raise LinkBroken("cut", True, False)

    with primary_with_replica() as (primary, replica):
        link = get_link(primary.url("wait=1&wait_timeout=0.2"))
        link.connect()
        replica.pause()
        monkeypatch.setattr(Wire, "ask_many", cut)
        with pytest.raises(ManagerLost, match="only 0 of 1 replicas"):
            link.run_script(once, [link.key("a")])
        assert primary.command("EXISTS", link.key("a")) == 1
        replica.resume()
        link.close()


def test_a_promoted_replica_is_found_and_the_fence_grows() -> None:
    with primary_with_replica() as (primary, replica):
        with connected(f"valkey://{primary.place},{replica.place}") as manager:
            door = manager.Lock("door")
            with door:
                before = door.fence
            primary.kill()
            replica.command("REPLICAOF", "NO", "ONE")
            with door:
                assert door.fence > before


# -- TLS and clusters -----------------------------------------------------------------------------


def test_a_manager_over_tls() -> None:
    with server_with_tls() as (server, files):
        own = f"&cert={files['cert']}&key={files['key']}"
        with connected(server.url(f"ca={files['ca']}{own}", scheme="valkeys")) as manager:
            assert manager.list([1, 2]) == [1, 2]
        with pytest.raises(OSError, match=r"\?ca=FILE"):
            garrison.Manager(server.url(own[1:], scheme="valkeys"))
        with pytest.raises(OSError, match="valkey://"):
            garrison.Manager(server.url("timeout=0.5"))


@pytest.mark.watchdog(60)
def test_a_manager_on_a_cluster() -> None:
    with cluster() as nodes:
        with pytest.raises(ValueError, match=r"valkey\+cluster://"):
            garrison.Manager(nodes[0].url())
        for name in ("one", "two", "three"):
            url = f"valkey+cluster://{nodes[0].place}?prefix={name}&timeout=0.5"
            with connected(url) as manager:
                shared, log = manager.dict("stock", apples=1), manager.list()
                with manager.Lock("door"), manager.transaction():
                    shared["apples"] += 1
                    log.append("sold")
                assert (shared, log) == ({"apples": 2}, ["sold"])


def test_a_slot_that_moves_is_followed() -> None:
    with cluster() as nodes:
        url = f"valkey+cluster://{nodes[0].place}"
        slot = nodes[0].command("CLUSTER", "KEYSLOT", "{garrison}:")
        with connected(url) as manager:
            manager._link.execute("GET", manager._link.key("nothing"))
            owner = next(node for node in nodes if _has(node, slot))
            other = next(node for node in nodes if node is not owner)
            for node in (other, owner, *nodes):
                node.command("CLUSTER", "SETSLOT", slot, "NODE", other.command("CLUSTER", "MYID"))
            assert manager.dict("stock", apples=1) == {"apples": 1}
            assert other.command("DBSIZE") > 0


def _has(node: ValkeyServer, slot: int) -> bool:
    ranges = node.command("CLUSTER", "SLOTS")
    mine = node.port
    return any(first <= slot <= last and where[1] == mine for first, last, where, *_ in ranges)


# -- processes ------------------------------------------------------------------------------------


def test_a_forked_child_has_its_own_connection() -> None:
    with ValkeyServer() as server, connected(server.url()) as manager:
        shared = manager.dict("stock", apples=1)
        first = manager._link.execute("CLIENT", "ID")
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                shared["child"] = manager._link.execute("CLIENT", "ID")
                os.write(write, b"done")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.close(write)
        assert os.read(read, 4) == b"done"
        os.close(read)
        assert manager._link.execute("CLIENT", "ID") == first
        assert shared["child"] != first


def count(manager: Any, number: int) -> int:
    with manager.Lock("door"):
        shared = manager.dict("counts")
        shared["total"] = shared.get("total", 0) + number
    return number


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_pool_use_the_manager(method: str) -> None:
    with ValkeyServer() as server, connected(server.url()) as manager:
        with garrison.get_context(method).Pool(2) as pool:
            assert sum(pool.starmap(count, [(manager, i) for i in range(20)])) == 190
        assert manager.dict("counts") == {"total": 190}


def put_one(queue: Any) -> None:
    queue.put("from a child")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_process_gets_the_password(method: str) -> None:
    with server_with_password("word") as server, connected(server.url(login=":word")) as manager:
        queue = manager.Queue()
        child = garrison.get_context(method).Process(target=put_one, args=(queue,))
        child.start()
        assert queue.get(timeout=20) == "from a child"
        child.join()


# -- the manager itself ---------------------------------------------------------------------------


def test_what_needs_a_process_of_garrisons_is_refused() -> None:
    with ValkeyServer() as server, connected(server.url()) as manager:
        for use in (manager.Pool, manager.get_server, manager._debug_info):
            with pytest.raises(RuntimeError, match="in a process of garrison's, and at valkey://"):
                use()
        with pytest.raises(RuntimeError, match="BGSAVE"):
            manager.backup("/nowhere")


def test_a_manager_that_was_shut_down_says_so_and_its_containers_go_on() -> None:
    with ValkeyServer() as server:
        manager = garrison.Manager(server.url())
        assert repr(manager) == f"<ValkeyManager started at valkey://{server.place}/0>"
        shared = manager.dict(a=1)
        manager.shutdown()
        manager.join()
        with pytest.raises(garrison.ProcessError, match="has shut down"):
            manager.dict()
        assert shared == {"a": 1}
        del shared, manager
