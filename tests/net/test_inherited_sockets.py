"""Sockets of a server that a forked child has open too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.net._connection import Connection

from .by_hand import by_hand
from .wire_tools import ECHO, KEY, serving


@contextlib.contextmanager
def open_twice(fd: int) -> Iterator[None]:
    """Have another descriptor of the same socket, as a forked child has."""
    copy = os.dup(fd)
    try:
        yield
    finally:
        os.close(copy)


def test_dropped_session_with_an_inherited_socket_causes_no_more_events() -> None:
    with by_hand() as hand:
        peer = hand.known_peer()
        with open_twice(peer.session.fd):
            peer.sock.close()
            hand.turns()
            assert not peer.session.open
            assert hand.loop._epoll.poll(0) == []


def test_peer_of_a_dropped_session_with_an_inherited_socket_is_disconnected() -> None:
    with by_hand() as hand:
        peer = hand.known_peer()
        with open_twice(peer.session.fd):
            peer.session.drop("the test says so")
            assert peer.is_cut()


def sockets_of(pid: int) -> set[str]:
    folder = Path(f"/proc/{pid}/fd")
    return {str(each.readlink()) for each in folder.iterdir() if each.is_socket()}


def test_forked_child_closes_its_copies_of_a_servers_sockets() -> None:
    before = sockets_of(os.getpid())
    with serving() as server, Connection(server.address, KEY) as connection:
        connection.ask(ECHO)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.write(write, b"1" if sockets_of(os.getpid()) <= before else b"0")
            os._exit(0)
        os.close(write)
        assert os.read(read, 1) == b"1"
        os.close(read)
        os.waitpid(child, 0)
        assert connection.ask(ECHO, 1) == [1]  # the parent's are as they were
        assert Connection(server.address, KEY).ask(ECHO, 2) == [2]


def test_stopped_server_refuses_connections_while_a_forked_child_lives() -> None:
    with serving() as server, server.connect() as connection:
        connection.ask(ECHO)
        (read, write), (told, tell) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.write(tell, b"1")
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.read(told, 1)
        for fd in (read, told, tell):
            os.close(fd)
        server.stop()
        with pytest.raises(OSError, match="refused"):
            Connection(server.address, KEY)
        os.close(write)
        os.waitpid(child, 0)
