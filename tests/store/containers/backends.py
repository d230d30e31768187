"""The backends that the same tests are run on."""

from __future__ import annotations

import contextlib
import copyreg
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from weakref import WeakValueDictionary

import garrison
from garrison import _core
from garrison.store import Codec, get_container
from valkey_server import ValkeyServer, require_server

from ..tools import MEBIBYTE, WORDS, Memory  # noqa: TID252 - tests/store is a package of its own
from .model import Model, RemoteModel
from .model_codec import encode_key

_opened: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
"""The stores of this process, as containers that come out of a pickle find them."""


@contextmanager
def _hooks(encode_key: Any) -> Iterator[Codec]:
    def container(kind: int, c: int, _is_ref: bool) -> Any:
        return get_container(_opened[codec.uuid], kind, c)

    codec = Codec(os.urandom(16), encode_key, container)
    with contextlib.closing(codec):
        yield codec


@contextmanager
def model(kind: type[Model] = Model) -> Iterator[Any]:
    with _hooks(encode_key) as hooks:
        store = _opened[hooks.uuid] = kind(hooks)
        yield store


@contextmanager
def lmdb() -> Iterator[Any]:
    with (
        contextlib.closing(Memory()) as memory,
        WORDS.lent() as words,
        _hooks(_core.encode_key) as hooks,
        contextlib.closing(
            _core.Store(
                memory.place,
                hooks,
                words.lock,
                words.change_words,
                size=64 * MEBIBYTE,
                in_memory=True,
                sync=False,
                owner=1,
            )
        ) as store,
    ):
        _opened[hooks.uuid] = store
        yield store


@contextmanager
def remote() -> Iterator[Any]:
    """Serve a store in another process, and reach it over TCP."""
    key = os.urandom(32)
    fork: Any = garrison.get_context("fork")
    with contextlib.ExitStack() as stack:
        place = ("127.0.0.1", 0)
        server = stack.enter_context(fork.Manager(place, key=key, size=64 * MEBIBYTE))
        client = stack.enter_context(garrison.connect(server.address, key=key, direct=False))
        backend = client.store.backend
        stack.enter_context(contextlib.closing(backend.hooks))
        stack.enter_context(_upkeep(backend, server.store.backend))
        yield backend


@contextmanager
def _upkeep(backend: Any, near: Any) -> Iterator[None]:
    """Let the tests do what only the server does."""
    backend.collect_garbage = near.collect_garbage
    backend.release_owner = lambda _: [near.release_claims(each) for each in near.owners()]
    try:
        yield
    finally:
        del backend.collect_garbage, backend.release_owner


@contextmanager
def valkey() -> Iterator[Any]:
    """Keep a store on a Valkey or Redis server."""
    require_server()
    from garrison.manager.valkey._connection import get_link
    from garrison.manager.valkey._store import get_valkey_store

    with ValkeyServer() as server, contextlib.closing(get_link(server.url())) as link:
        store = get_valkey_store(link)
        # Two: the sign of life is sent by another thread, and the test that it meets would seem to
        # leave a connection behind.
        link._spare.extend([link._take(), link._take()])
        with contextlib.closing(store.backend.hooks):
            yield store.backend


BACKENDS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "model": model,
    "remote": remote,
    "remote-model": functools.partial(model, RemoteModel),
    "lmdb": lmdb,
    "valkey": valkey,
}


def _find(uuid: bytes) -> Any:
    return _opened[uuid]


def _reduce(store: Any) -> Any:
    return _find, (store.uuid,)


copyreg.pickle(Model, _reduce)
copyreg.pickle(RemoteModel, _reduce)
copyreg.pickle(_core.Store, _reduce)
