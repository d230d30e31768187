"""Keys: which are stretched, which are refused, and that none is ever shown."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing import current_process
from typing import Any

import pytest

import garrison
from garrison.net import Key, generate_key
from garrison.net._key import derive_psk

PHRASE = b"correct horse battery staple, and a whole sentence more"


def is_stretched(key: bytes, monkeypatch: pytest.MonkeyPatch) -> bool:
    calls: list[bytes] = []
    plain = hashlib.scrypt

    def scrypt(password: bytes, **options: Any) -> bytes:
        calls.append(password)
        return plain(password, **options)

    derive_psk.cache_clear()
    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    assert len(derive_psk(key, b"salt")) == 32
    return bool(calls)


@pytest.mark.parametrize(
    "key", [b"a", PHRASE, PHRASE * 20, b"garrison-and-what-i-remember", bytes(31)]
)
def test_what_a_person_may_have_chosen_is_stretched(
    key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_stretched(key, monkeypatch)


def test_random_keys_are_not_stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (generate_key(), bytes(current_process().authkey), b"\xff" + os.urandom(31)):
        assert not is_stretched(key, monkeypatch)


def test_zero_bytes_at_the_end_are_part_of_a_key() -> None:
    assert len({derive_psk(bytes(count), b"salt") for count in (1, 2, 31, 32)}) == 4


def test_generated_keys_differ_and_are_text() -> None:
    keys = {generate_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key.decode()) > 40 for key in keys)


def test_command_prints_a_key() -> None:
    command = [sys.executable, "-m", "garrison", "key"]
    first, second = (
        subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)
    )
    assert first != second
    assert len(first.strip()) == len(generate_key())


@pytest.mark.parametrize("address", [("0.0.0.0", 0), ("", 0), ("::", 0)])  # noqa: S104
@pytest.mark.parametrize("key", ["a", b"1234567"])
def test_short_key_is_refused_where_other_computers_can_try(
    address: tuple[str, int], key: str | bytes
) -> None:
    with pytest.raises(ValueError, match=r"garrison key > FILE"):
        garrison.Manager(address=address, key=key)


# -- keys are never shown -------------------------------------------------------------------------


def test_key_has_a_repr_that_says_nothing() -> None:
    key = Key(b"secret of mine")
    assert {repr(key), str(key), f"{key}", f"{[key]}", f"{key!r}"} == {"<key>", "[<key>]"}
    assert bytes(key) == b"secret of mine"
    with pytest.raises(TypeError, match="security"):
        pickle.dumps(key)


def takes(value: Any) -> None:
    del value


def secret() -> Any:
    return [current_process(), {"key": current_process().authkey}]


SENDERS: dict[str, Callable[[Any, Any], object]] = {
    "argument": lambda pool, _: pool.apply(takes, secret()[:1]),
    "key as an argument": lambda pool, _: pool.apply(takes, secret()[1:]),
    "item": lambda pool, _: pool.map(takes, secret()),
    "result": lambda pool, _: pool.apply(secret),
    "queue": lambda _pool, _manager: garrison.Queue().put(secret()),
    "dict": lambda _, manager: manager.dict(a=secret()),
    "list": lambda _, manager: manager.list(secret()),
    "shared": lambda _pool, _manager: garrison.share(secret()),
}


def shows_key(text: str) -> bool:
    key = bytes(current_process().authkey)
    parts = (repr(key)[2:12], repr(key)[-12:-1], key.hex()[:10])
    return any(part in text for part in parts)


@pytest.mark.parametrize("sender", SENDERS)
def test_error_never_shows_the_key_of_the_program(
    sender: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with garrison.Pool(1) as pool, garrison.Manager() as manager:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of several types
            SENDERS[sender](pool, manager)
        assert not shows_key("".join(traceback.format_exception(caught.value)))
        for each in (manager, vars(manager), vars(manager._client), pool):
            assert not shows_key(repr(each))
    assert not shows_key(caplog.text)
