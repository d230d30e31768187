"""`Channel`: the greeting, the handshake and what comes after, without any socket."""

from __future__ import annotations

import socket
import struct
from multiprocessing import AuthenticationError
from typing import Any

import pytest

from garrison.errors import ChannelError
from garrison.net import _handshake
from garrison.net._handshake import (
    DONE,
    ClientHandshake,
    ServerHandshake,
    reject_bytes,
)
from garrison.net._key import derive_psk
from garrison.net._limits import Limits
from garrison.net._server_keys import ServerKeys

from .wire_tools import KEY, SHORT_KEY

LIMITS = Limits(max_frame=1 << 20, max_message=4 << 20)
SALT = bytes(range(32))
GREETING = struct.Struct(">8sHBH")


def ends(
    client_key: bytes = KEY, server_key: bytes = KEY, hello: tuple[Any, ...] = ("me",)
) -> tuple[ClientHandshake, ServerHandshake]:
    return ClientHandshake(client_key, LIMITS, hello), ServerHandshake(
        ServerKeys(server_key), LIMITS
    )


def shake_hands(client: ClientHandshake, server: ServerHandshake) -> None:
    while not server.established:
        server.receive(client.take())
        client.receive(server.take())


# --- The handshake -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, SHORT_KEY, b"", bytes(1000)])
def test_handshake_authenticates_both_ends(key: bytes) -> None:
    client, server = ends(key, key, ("me", 7))
    shake_hands(client, server)
    assert client.established
    assert server.established
    assert server.hello == ["me", 7]
    client.put(1, 9, ("key",))
    assert server.receive(client.take()) == [(1, 9, ["key"])]
    server.put(1, DONE, (b"value",))
    assert client.receive(server.take()) == [(1, DONE, [b"value"])]


def test_handshake_accepts_bytes_one_at_a_time() -> None:
    client, server = ends()
    for byte in client.take():
        assert server.receive(bytes([byte])) == []
    for byte in server.take():
        assert client.receive(bytes([byte])) == []
    client.put(1, 9, ("key",))
    data = client.take() + client.take()
    assert [m for byte in data for m in server.receive(bytes([byte]))] == [(1, 9, ["key"])]


def test_requests_may_come_with_the_first_record() -> None:
    client, server = ends()
    server.receive(client.take())
    client.receive(server.take())
    client.put(1, 9, ("key",))
    assert server.receive(client.take() + client.take()) == [(1, 9, ["key"])]


def test_client_with_another_key_is_refused_at_once() -> None:
    client, server = ends(client_key=KEY[:-1] + b"1")
    with pytest.raises(AuthenticationError, match="the client has another key"):
        server.receive(client.take())
    with pytest.raises(AuthenticationError, match="the server has another key"):
        client.receive(server.take())


def test_client_refuses_a_server_without_the_key() -> None:
    client, _ = ends()
    impostor = GREETING.pack(b"garrison", 1, 0, 64) + bytes(64)
    with pytest.raises(AuthenticationError, match="did not prove that it has the key"):
        client.receive(impostor)


def test_another_version_is_named_by_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = ends()
    said = client.take()
    monkeypatch.setattr(_handshake, "VERSION", 2)
    with pytest.raises(ChannelError, match=r"client speaks version 1 .* this side version 2"):
        server.receive(said)
    answer = server.take()
    monkeypatch.undo()
    with pytest.raises(ChannelError, match=r"server speaks version 2 .* this side version 1"):
        client.receive(answer)


def test_tampered_version_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_handshake, "VERSION", 2)
    client, _ = ends()
    said = client.take()
    monkeypatch.undo()
    _, server = ends()
    forged = said[:8] + b"\0\1" + said[10:]
    with pytest.raises(AuthenticationError):
        server.receive(forged)


def test_full_server_refuses_with_a_reason() -> None:
    client, _ = ends()
    with pytest.raises(ChannelError, match="no room for another connection"):
        client.receive(reject_bytes(_handshake.BUSY))


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n", b"\0\0\0\x14#CHALLENGE#", b"\x16\x03\x01\x02\0", b"SSH-2.0-x", b"\0"],
)
def test_other_protocols_are_recognised_by_their_first_bytes(said: bytes) -> None:
    for end in ends():
        with pytest.raises(ChannelError, match="does not speak garrison's protocol"):
            end.receive(said)


def test_unauthenticated_peer_cannot_fill_the_buffer() -> None:
    client, server = ends()
    with pytest.raises(ChannelError, match="a handshake of 257 bytes, and 256 are the limit"):
        server.receive(GREETING.pack(b"garrison", 1, 0, 257))
    client, server = ends()
    server.receive(client.take())
    with pytest.raises(ChannelError, match="a first record of 257 bytes; 256 are the limit"):
        server.receive(b"\x01\x01")
    client, server = ends()
    with pytest.raises(ChannelError, match="a handshake of 257 bytes"):
        client.receive(GREETING.pack(b"garrison", 1, 0, 257))


def test_replayed_client_is_refused_after_its_hello() -> None:
    client, server = ends()
    greeting = client.take()
    server.receive(greeting)
    client.receive(server.take())
    rest = client.take()
    _, again = ends()
    again.receive(greeting)
    with pytest.raises(ChannelError, match="not sealed by the other side"):
        again.receive(rest)
    assert not again.established


def test_client_must_send_its_hello_first() -> None:
    client, server = ends()
    server.receive(client.take())
    client.receive(server.take())
    client.take()
    forward = ServerHandshake(ServerKeys(KEY), LIMITS)
    other = ClientHandshake(KEY, LIMITS)
    forward.receive(other.take())
    other.secure_channel.read_handshake(forward.take()[GREETING.size :])
    other.secure_channel.put(1, 9, ())
    with pytest.raises(ChannelError, match="does not begin with HELLO"):
        forward.receive(other.secure_channel.take())


def test_oversized_hello_is_refused_by_the_client() -> None:
    client, server = ends(hello=("x" * 300,))
    server.receive(client.take())
    with pytest.raises(ValueError, match="hello must fit into 256 bytes"):
        client.receive(server.take())


@pytest.mark.parametrize("status", [4, 255])
def test_unknown_handshake_statuses_are_refused(status: int) -> None:
    client, _ = ends()
    with pytest.raises(ChannelError, match=f"unknown status \\({status}\\)"):
        client.receive(reject_bytes(status))


# --- Afterwards ----------------------------------------------------------------------------------


def test_malformed_record_is_a_channel_error() -> None:
    for harm in (b"\0\0", b"\xff\xff" + bytes(65_535), b"\0\x20" + bytes(32)):
        client, server = ends()
        shake_hands(client, server)
        with pytest.raises(ChannelError):
            server.receive(harm)
        with pytest.raises(ChannelError):
            client.receive(harm)


def test_limits_hold_for_authenticated_peers() -> None:
    client, server = ends()
    shake_hands(client, server)
    client.secure_channel.seal(b"")
    with pytest.raises(ChannelError, match="a frame of 1048577 bytes"):
        server.receive(client.secure_channel.seal(struct.pack(">IIB", (1 << 20) + 1, 1, 1)))


def test_keys_of_any_length_are_derived() -> None:
    assert derive_psk(KEY, SALT) != derive_psk(KEY + b"x", SALT)
    assert derive_psk(SHORT_KEY, SALT) != derive_psk(SHORT_KEY + b"x", SALT)
    assert len(derive_psk(b"", SALT)) == len(derive_psk(KEY, SALT)) == 32
    assert derive_psk(bytes(31), SALT) != derive_psk(bytes(32), SALT)
    assert derive_psk(SHORT_KEY, SALT) != derive_psk(SHORT_KEY, bytes(32))


def test_handshake_needs_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    shake_hands(*ends())
