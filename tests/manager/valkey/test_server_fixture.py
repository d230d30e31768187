"""The servers of these tests: each kind starts, is reached by its URL, and leaves nothing."""

from __future__ import annotations

import garrison.manager.valkey._connection as connection
from valkey_server import (
    ValkeyServer,
    cluster,
    primary_with_replica,
    server_with_password,
    server_with_tls,
)
from waiting import wait_until


def pong(url: str) -> bytes:
    link = connection.get_link(url)
    try:
        link.connect()
        return bytes(link.execute("PING"))
    finally:
        link.close()


def test_a_server_is_reached_by_its_port_and_by_its_socket() -> None:
    with ValkeyServer() as by_port, ValkeyServer(is_unix=True) as by_socket:
        assert pong(by_port.url()) == pong(by_socket.url()) == b"PONG"


def test_a_server_with_a_password_is_reached_with_it() -> None:
    with server_with_password("a word") as server:
        assert pong(server.url(login=":a%20word")) == b"PONG"


def test_a_server_with_tls_is_reached_with_a_certificate() -> None:
    with server_with_tls() as (server, files):
        options = f"ca={files['ca']}&cert={files['cert']}&key={files['key']}"
        assert pong(server.url(options, scheme="valkeys")) == b"PONG"


def test_a_primary_has_its_replica() -> None:
    with primary_with_replica() as (primary, replica):
        primary.command("SET", "a", 1)
        wait_until(lambda: replica.command("GET", "a") == b"1")
        assert pong(f"valkey://{replica.place},{primary.place}") == b"PONG"


def test_each_node_of_a_cluster_leads_to_the_one_that_has_the_prefix() -> None:
    with cluster() as nodes:
        for node in nodes:
            url = node.url(scheme="valkey+cluster").replace("/0", "")
            link = connection.get_link(url)
            link.connect()
            link.execute("SET", link.key("a"), 1, writes=True)
            assert link.execute("GET", link.key("a")) == b"1"
            link.close()
