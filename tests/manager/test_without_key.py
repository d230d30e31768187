"""A server that keeps plain values: it has no key, or its clients may not run code in each other.

Without a key anybody on the machine may be the server, or may have written what it keeps.
"""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import os
import pickle
import uuid
from collections import Counter, OrderedDict, deque
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import _core
from garrison.errors import ItemUnpicklable, ValueUnreadable
from garrison.managers import RemoteError
from garrison.net import RemoteFailure, Verb
from garrison.store import plain_values
from manager.processes import ServerProcess
from net.wire_tools import Service, serving

UTC_1 = dt.timezone(dt.timedelta(hours=1), "one")
PLAIN = [
    *((1, 2), frozenset("a"), 2j, b"\0\xff", bytearray(b"x"), range(5, 1, -1), slice(1, None, 2)),
    *(10**50, -(10**30), float("inf"), "\ud800", True, None, {"a": (1,)}, [(1, [2])], {(3,): {4}}),
    *(decimal.Decimal("1.50"), fractions.Fraction(1, 3), uuid.UUID(int=7), deque([1, 2], 3)),
    *(Counter("aab"), OrderedDict(b=1, a=2), dt.date(2020, 1, 2), dt.timedelta(-1, 5)),
    dt.datetime(2020, 1, 2, 3, 4, 5, 6, fold=1),  # noqa: DTZ001 - without a zone on purpose
    dt.datetime(2020, 1, 2, tzinfo=UTC_1),
    *(dt.time(1, 2, 3), dt.time(1, 2, tzinfo=dt.timezone.utc)),
]


class Loot:
    """What its pickle does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.path,)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder that is made if a pickle is read."""
    return tmp_path / "made by a pickle"


class Hostile(Service):
    """Answers each request with a pickle, as a failure or as a result."""

    def __init__(self, pickled: bytes, *, failing: bool) -> None:
        super().__init__()
        self.pickled, self.failing = pickled, failing

    def request(self, session: Any, rid: int, verb: int, args: list[Any]) -> None:
        del args
        if verb == Verb.HELLO:
            session.reply(rid, 1, "", True)
        elif self.failing:
            session.fail(rid, "raised", "it failed", self.pickled)
        else:
            session.reply(rid, *(b"\x08" + self.pickled, self.pickled))


@pytest.mark.parametrize("failing", [True, False], ids=["failure", "result"])
def test_client_reads_no_pickle_of_whoever_has_the_port(trap: Path, failing: bool) -> None:
    hostile = Hostile(pickle.dumps(Loot(trap)), failing=failing)
    with serving(hostile, key=b"") as running:
        attempts = (
            lambda manager: manager.dict("stock")["tea"],
            lambda manager: manager.list("log")[:],
            lambda manager: list(manager.dict("stock").items()),
            lambda manager: manager._client.create("Pool", (), {}),
            lambda manager: manager._client._answer((0, hostile.pickled)),
            lambda manager: manager.Lock("door").acquire(timeout=0),
        )
        for attempt in attempts:
            with pytest.raises(Exception) as caught:  # noqa: PT011 - any is fine
                attempt(garrison.connect(running.address, garrison.NO_KEY))
            assert not isinstance(caught.value, AssertionError)
    assert not trap.exists()


def test_failure_without_its_exception_still_says_what_went_wrong(trap: Path) -> None:
    with (
        serving(Hostile(pickle.dumps(Loot(trap)), failing=True), key=b"") as running,
        pytest.raises(RemoteError, match="it failed"),
    ):
        garrison.connect(running.address, garrison.NO_KEY)
    assert not trap.exists()


def test_connecting_never_falls_back_to_no_key() -> None:
    with ServerProcess(key=b"") as server:
        with pytest.raises(AuthenticationError, match=r"key=garrison\.NO_KEY"):
            garrison.connect(server.address)
        with pytest.raises(ValueError, match="an empty key protects nothing"):
            garrison.connect(server.address, b"")
        with garrison.connect(server.address, garrison.NO_KEY) as client:
            assert client.dict("stock", tea=1) == {"tea": 1}


NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_socket_of_another_user_is_not_asked_without_a_key(tmp_path: Path) -> None:
    address = f"\0garrison-{tmp_path.name}-{os.getpid()}"
    with ServerProcess(address=address, key=b"", enter=lambda: os.setuid(NOBODY)):
        with pytest.raises(AuthenticationError, match=f"belongs to user {NOBODY}"):
            garrison.connect(address, garrison.NO_KEY)


def connect_as_nobody(address: str) -> str:
    os.setuid(NOBODY)
    try:
        garrison.connect(address, garrison.NO_KEY)
    except AuthenticationError as error:
        return str(error)
    return "connected"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_server_without_a_key_serves_its_own_user_only(tmp_path: Path) -> None:
    address = f"\0garrison-{tmp_path.name}-{os.getpid()}"
    with ServerProcess(address=address, key=b"") as server, garrison.Pool(1) as pool:
        assert "another key" in pool.apply(connect_as_nobody, (address,))
        with server.connect() as client:
            assert client.dict() == {}


PLAIN_SERVERS = pytest.mark.parametrize(
    "options", [{"key": b""}, {"allow_pickle": False}], ids=["no key", "no pickles"]
)


@PLAIN_SERVERS
def test_plain_values_are_kept_as_they_are(options: dict[str, Any]) -> None:
    with ServerProcess(**options) as server, server.connect() as client:
        stock = client.dict("stock")
        for number, value in enumerate(PLAIN):
            stock[number] = value
        for number, value in enumerate(PLAIN):
            found = stock[number]
            plain = found.copy() if hasattr(found, "__garrison_container__") else found
            assert (repr(plain), plain) == (repr(value), value)
        days = client.dict("days", {dt.date(2020, 1, 2): "Thursday"})
        assert (days[dt.date(2020, 1, 2)], list(days)) == ("Thursday", [dt.date(2020, 1, 2)])


@PLAIN_SERVERS
def test_other_values_are_refused_by_the_client(trap: Path, options: dict[str, Any]) -> None:
    with ServerProcess(**options) as server, server.connect() as client:
        stock = client.dict("stock")
        for bad in (Loot(trap), (1, Loot(trap)), lambda: 1, fractions.Fraction(1, 1 << 40_000)):
            with pytest.raises(ItemUnpicklable):
                stock["bad"] = bad
            with pytest.raises(ItemUnpicklable):
                stock.update({"bad": [bad]})
        with pytest.raises(ItemUnpicklable):
            stock[Loot(trap)] = 1
        assert stock == {}
        with pytest.raises((ItemUnpicklable, RemoteError), match="without a key|does not know"):
            client._client.create("Pool", (), {})
    assert not trap.exists()


@PLAIN_SERVERS
def test_pickles_are_refused_by_the_server_too(trap: Path, options: dict[str, Any]) -> None:
    loot = b"\x08" + pickle.dumps(Loot(trap))
    with ServerProcess(**options) as server, server.connect() as client:
        stock, log = client.dict("stock"), client.list()
        c, other = stock._container_id, log._container_id
        backend: Any = stock._backend
        key = [*_core.encode_key("tea", backend.hooks)]
        connected: Any = client._client
        ask = connected.connection.ask
        for request in (
            ("dict_set", c, key, loot),
            ("dict_set", c, [key[0], loot], b"\x00"),
            ("dict_setdefault", c, key, loot),
            ("dict_update", c, [[key, loot]]),
            ("dict_add", c, key, b"\x00", loot),
            ("dict_compare_and_set", c, key, None, loot),
            ("set_add", c, [key[0], loot]),
            ("list_append", other, loot),
            ("list_extend", other, [b"\x00", loot], False),
            ("list_insert", other, 0, loot),
            ("list_replace", other, 0, 0, [loot]),
        ):
            with pytest.raises(RemoteFailure, match="plain values only"):
                ask(Verb.STORE, *request)
        assert stock == {}
        assert log == []
    assert not trap.exists()


@PLAIN_SERVERS
def test_pickle_of_a_program_that_has_the_folder_is_not_read(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with garrison.Manager(path=tmp_path / "store") as manager:
        manager.dict("stock", tea=1 + 2j)
    with ServerProcess(tmp_path / "store", **options) as server, server.connect() as client:
        with pytest.raises(ValueUnreadable, match="--allow-pickle"):
            client.dict("stock")["tea"]
        client.dict("stock")["coffee"] = (3, 4)
        server.end()
    with garrison.Manager(path=tmp_path / "store") as manager:
        assert manager.dict("stock") == {"tea": 1 + 2j, "coffee": (3, 4)}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\x80\x04.", b"\x01", b'\x01["nope"]', b'\x01{"a":1}', b"\x01[]", b"\x01[[]]"),
        *(b'\x01["bytearray",1500000000]', b'\x01["Fraction","1e30000000"]', b'\x01["dict",1]'),
        *(b'\x01["Fraction",1,0]', b'\x01["set",["list"]]', b'\x01["int","0x%s"]' % (b"f" * 10**6)),
        *(b"\x01" + b"[" * 300_000, b"\x01" + b'["tuple",' * 101 + b"1" + b"]" * 101),
        *(b"\x01\xff", b'\x01["int",5]', b'\x01["timedelta",1e300]', b'\x01["range","a"]'),
    ],
)
def test_damaged_plain_value_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueUnreadable):
        plain_values.loads(data)
