"""`_core.SecureChannel`: the handshake, records, frames and fields, without any socket."""

from __future__ import annotations

import math
import random
from typing import Any

import msgpack
import pytest

from garrison._core import SecureChannel
from garrison.errors import ChannelError

PSK = bytes(range(32))
PROLOGUE = b"a protocol, version 1"


def pair(**limits: Any) -> tuple[SecureChannel, SecureChannel]:
    """Return both ends after their handshake."""
    client, server = (
        SecureChannel(True, PSK, PROLOGUE, **limits),
        SecureChannel(False, PSK, PROLOGUE, **limits),
    )
    assert server.read_handshake(client.write_handshake(b"who")) == b"who"
    assert client.read_handshake(server.write_handshake(b"an epoch")) == b"an epoch"
    assert client.finished
    assert server.finished
    return client, server


def frame(fields: bytes, number: int = 1, verb: int = 1) -> bytes:
    return len(fields).to_bytes(4, "big") + number.to_bytes(4, "big") + bytes([verb]) + fields


# --- The handshake -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("psk", "prologue"), [(bytes(32), PROLOGUE), (PSK, b"a protocol, version 2"), (PSK, b"")]
)
def test_another_key_or_prologue_is_refused_by_the_first_message(
    psk: bytes, prologue: bytes
) -> None:
    client, server = SecureChannel(True, PSK, PROLOGUE), SecureChannel(False, psk, prologue)
    with pytest.raises(ChannelError, match="another key"):
        server.read_handshake(client.write_handshake())
    assert not server.finished
    with pytest.raises(ChannelError):
        server.write_handshake()


def test_an_answer_by_someone_without_the_key_is_refused() -> None:
    client, impostor = SecureChannel(True, PSK, PROLOGUE), SecureChannel(False, bytes(32), PROLOGUE)
    other = SecureChannel(True, bytes(32), PROLOGUE)
    impostor.read_handshake(other.write_handshake())
    client.write_handshake()
    with pytest.raises(ChannelError, match="another key"):
        client.read_handshake(impostor.write_handshake())


def test_every_changed_byte_of_a_handshake_is_noticed() -> None:
    for at in range(48):
        client, server = SecureChannel(True, PSK, PROLOGUE), SecureChannel(False, PSK, PROLOGUE)
        message = bytearray(client.write_handshake())
        message[at] ^= 1
        with pytest.raises(ChannelError):
            server.read_handshake(bytes(message))


def test_recorded_handshake_cannot_be_replayed() -> None:
    client, server = SecureChannel(True, PSK, PROLOGUE), SecureChannel(False, PSK, PROLOGUE)
    first = client.write_handshake()
    server.read_handshake(first)
    client.read_handshake(server.write_handshake())
    client.put(1, 1, ("secret",))
    record = client.take()
    again = SecureChannel(False, PSK, PROLOGUE)
    again.read_handshake(first)
    again.write_handshake()
    with pytest.raises(ChannelError, match="not sealed by the other side"):
        again.feed(record)


def test_two_connections_with_one_key_share_nothing() -> None:
    (one, _), (other, _) = pair(), pair()
    assert one.seal(b"the same") != other.seal(b"the same")


@pytest.mark.parametrize("size", [0, 1, 47, 49, 400, 70_000])
def test_a_handshake_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ChannelError):
        SecureChannel(False, PSK, PROLOGUE).read_handshake(bytes(size))


def test_handshake_calls_in_another_order_are_refused() -> None:
    client = SecureChannel(True, PSK, PROLOGUE)
    for call in (lambda: client.seal(b"x"), lambda: client.put(1, 1, ()), client.take):
        with pytest.raises(ChannelError, match="handshake is not over"):
            call()
    client, _ = pair()
    with pytest.raises(ChannelError, match="handshake is over"):
        client.write_handshake()
    with pytest.raises(ValueError, match="32 bytes"):
        SecureChannel(True, b"short", PROLOGUE)


# --- Records -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 65_519, 65_520, 200_000])
def test_sealed_bytes_open_in_any_pieces(size: int) -> None:
    client, server = pair()
    data = random.Random(size).randbytes(size)
    sealed = client.seal(data)
    assert data not in sealed or size < 2
    pieces = random.Random(1)
    opened = b""
    while sealed:
        cut = pieces.randrange(1, 9000)
        opened += server.open(sealed[:cut])
        sealed = sealed[cut:]
    assert opened == data


def test_records_are_read_one_byte_at_a_time() -> None:
    client, server = pair()
    client.put(7, 3, ("key", 1))
    client.put(8, 3, ())
    messages = [message for byte in client.take() for message in server.feed(bytes([byte]))]
    assert messages == [(7, 3, ["key", 1]), (8, 3, [])]
    assert server.buffered == 0


def test_records_cannot_be_changed_dropped_reordered_repeated_or_sent_back() -> None:
    for harm in ("change", "drop", "swap", "repeat", "mirror", "shorten"):
        client, server = pair()
        first, second = client.seal(b"first"), client.seal(b"second")
        received = {
            "change": first[:9] + bytes([first[9] ^ 1]) + first[10:],
            "drop": second,
            "swap": second + first,
            "repeat": first + first,
            "mirror": server.seal(b"x"),
            "shorten": b"\0\x14" + first[2:],
        }[harm]
        with pytest.raises(ChannelError, match="not sealed by the other side"):
            server.open(received)
        with pytest.raises(ChannelError, match="broken"):
            server.open(first)


@pytest.mark.parametrize("length", range(17))
def test_a_record_that_can_hold_nothing_is_refused(length: int) -> None:
    _, server = pair()
    with pytest.raises(ChannelError, match="cannot hold anything"):
        server.feed(length.to_bytes(2, "big") + bytes(length))


# --- Frames --------------------------------------------------------------------------------------


def test_frames_of_one_turn_share_records() -> None:
    client, server = pair()
    for number in range(100):
        client.put(number, 5, (number,))
    data = client.take()
    assert len(data) < 100 * 12 + 18
    assert [message[0] for message in server.feed(data)] == list(range(100))
    assert client.take() == b""


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, 5_000_000])
def test_large_messages_come_in_parts_and_arrive_whole(size: int) -> None:
    client, server = pair(max_frame=1 << 21)
    value = random.Random(size).randbytes(size)
    client.put(1, 9, ("before", value))
    client.put(2, 9, ("after",))
    messages = []
    while data := client.take():
        messages += server.feed(data)
    assert messages == [(1, 9, ["before", value]), (2, 9, ["after"])]
    assert server.buffered == 0


def test_message_beyond_the_limit_is_refused_by_its_sender() -> None:
    client, server = pair(max_message=1000)
    with pytest.raises(OverflowError, match=r"1005 bytes, and 1000 are the limit \(max_message\)"):
        client.put(1, 1, (bytes(1001),))
    client.put(1, 1, ("small",))
    assert server.feed(client.take()) == [(1, 1, ["small"])]


def test_frame_beyond_the_limit_is_refused_before_its_bytes_arrive() -> None:
    client, server = pair(max_frame=1000)
    with pytest.raises(ChannelError, match="a frame of 1001 bytes, and 1000 are the limit"):
        server.feed(client.seal((1001).to_bytes(4, "big") + bytes(5)))


def test_message_parts_beyond_the_limit_are_refused() -> None:
    client, server = pair(max_message=4 << 20)
    for _ in range(4):
        server.feed(client.seal(frame(bytes(1 << 20), verb=0x81)))
    with pytest.raises(ChannelError, match="more than 4194304 bytes, the limit"):
        server.feed(client.seal(frame(b"x", verb=0x81)))
    assert server.buffered == 0


def test_memory_for_a_frame_grows_only_as_its_bytes_arrive() -> None:
    client, server = pair()
    server.feed(client.seal((200 << 20).to_bytes(4, "big") + bytes(5)))
    assert server.buffered == 9


# --- Fields --------------------------------------------------------------------------------------

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 127, 128, -32, -33, 255, 256, -128, -129, 65_535, 65_536,
    2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1.5, math.inf,
    "", "x", "ü" * 40, "x" * 300, "x" * 70_000, b"", b"\xff" * 300, b"x" * 70_000,
    [], [1, [2, [3]]], list(range(20)), list(range(300)), [None] * 70_000,
]  # fmt: skip


def test_fields_are_decoded_as_encoded() -> None:
    client, server = pair()
    client.put(1, 1, VALUES)
    [(_, _, fields)] = server.feed(b"".join(iter(client.take, b"")))
    assert fields == VALUES
    assert [type(field) for field in fields] == [type(value) for value in VALUES]


def payload_of(frames: bytes) -> bytes:
    payload = b""
    while frames:
        end = 9 + int.from_bytes(frames[:4], "big")
        payload, frames = payload + frames[9:end], frames[end:]
    return payload


def test_fields_are_msgpack() -> None:
    for value in VALUES:
        client, server = pair()
        client.put(1, 1, [value])
        fields = payload_of(b"".join(server.open(sealed) for sealed in iter(client.take, b"")))
        assert msgpack.unpackb(fields) == [value]
        assert fields == msgpack.packb([value])
        client, server = pair()
        assert server.feed(client.seal(frame(fields))) == [(1, 1, [value])]


def test_bytes_like_and_list_like_objects_are_encoded() -> None:
    client, server = pair()
    client.put(1, 1, (bytearray(b"a"), memoryview(b"b"), (1, 2)))
    assert server.feed(client.take()) == [(1, 1, [b"a", b"b", [1, 2]])]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("field", "error", "text"),
    [
        ({}, TypeError, "not dict"),
        (object(), TypeError, "not object"),
        (2**64, OverflowError, "64 bits"),
        (-(2**63) - 1, OverflowError, "64 bits"),
        ("\udcff", UnicodeEncodeError, "surrogates"),
        (nested(16), ValueError, "16 lists deep"),
    ],
)
def test_field_that_cannot_be_encoded_is_named_and_leaves_nothing(
    field: Any, error: type[Exception], text: str
) -> None:
    client, server = pair()
    with pytest.raises(error, match=text):
        client.put(1, 1, ("before", field))
    client.put(2, 1, ())
    assert server.feed(client.take()) == [(2, 1, [])]


MALFORMED = {
    "no list": (b"\x01", "no list"),
    "nothing": (b"", "longer than its message"),
    "too much": (b"\x90\x01", "1 bytes behind the last field"),
    "map": (b"\x91\x80", r"not allowed \(0x80\)"),
    "map 16": (b"\x91\xde\0\0", r"not allowed \(0xde\)"),
    "map 32": (b"\x91\xdf\0\0\0\0", r"not allowed \(0xdf\)"),
    "extension": (b"\x91\xc7\0\1", r"not allowed \(0xc7\)"),
    "timestamp": (b"\x91\xd6\xff\0\0\0\0", r"not allowed \(0xd6\)"),
    "reserved": (b"\x91\xc1", r"not allowed \(0xc1\)"),
    "text": (b"\x91\xa2\xff\xff", "no UTF-8"),
    "surrogate": (b"\x91\xa3\xed\xb3\xbf", "no UTF-8"),
    "short bytes": (b"\x91\xc4\x05abcd", "longer than its message"),
    "huge bytes": (b"\x91\xc6\xff\xff\xff\xffabcd", "longer than its message"),
    "huge text": (b"\x91\xdb\xff\xff\xff\xffabcd", "longer than its message"),
    "huge list": (b"\xdd\xff\xff\xff\xff\xc0", "longer than its message"),
    "list in list": (b"\x91\xdc\xff\xff\xc0", "longer than its message"),
    "short int": (b"\x91\xd3\0\0\0", "longer than its message"),
    "too deep": (b"\x91" * 17 + b"\xc0", "16 lists deep"),
    "far too deep": (b"\x91" * 100_000, "16 lists deep"),
    "too many lists": (b"\xdd\x00\x10\x00\x01" + b"\x90" * (2**20 + 1), "more than 1048576 lists"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_fields_are_refused(name: str) -> None:
    fields, text = MALFORMED[name]
    client, server = pair()
    with pytest.raises(ChannelError, match=text):
        server.feed(client.seal(frame(fields)))
    with pytest.raises(ChannelError, match="broken"):
        server.feed(b"")
