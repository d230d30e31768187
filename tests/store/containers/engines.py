"""The engines that the same tests are run on."""

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
from garrison.store import Codec, face

from ..tools import MEBIBYTE, WORDS, Memory  # noqa: TID252 - tests/store is a package of its own
from .model import FarModel, Model
from .model_codec import encode_key

_opened: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
"""The stores of this process, as faces that come out of a pickle find them."""


@contextmanager
def _hooks(encode_key: Any) -> Iterator[Codec]:
    def container(kind: int, c: int, _is_ref: bool) -> Any:
        return face(_opened[codec.uuid], kind, c)

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
                words.bells,
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
def far() -> Iterator[Any]:
    """Serve a store in another process, and reach it over TCP."""
    key = os.urandom(32)
    fork: Any = garrison.get_context("fork")
    with contextlib.ExitStack() as stack:
        place = ("127.0.0.1", 0)
        server = stack.enter_context(fork.Manager(place, key=key, size=64 * MEBIBYTE))
        client = stack.enter_context(garrison.connect(server.address, key=key, direct=False))
        engine = client.store.engine
        stack.enter_context(contextlib.closing(engine.hooks))
        stack.enter_context(_upkeep(engine, server.store.engine))
        yield engine


@contextmanager
def _upkeep(engine: Any, near: Any) -> Iterator[None]:
    """Let the tests do what only the server does."""
    engine.sweep = near.sweep
    engine.release_owner = lambda _: [near.release_claims(each) for each in near.owners()]
    try:
        yield
    finally:
        del engine.sweep, engine.release_owner


ENGINES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "model": model,
    "far": far,
    "far-model": functools.partial(model, FarModel),
    "lmdb": lmdb,
}


def _find(uuid: bytes) -> Any:
    return _opened[uuid]


def _reduce(store: Any) -> Any:
    return _find, (store.uuid,)


copyreg.pickle(Model, _reduce)
copyreg.pickle(FarModel, _reduce)
copyreg.pickle(_core.Store, _reduce)
