"""The engines that the same tests are run on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from garrison.store import Codec, face

from .model import Model
from .model_codec import encode_key


@contextmanager
def model() -> Iterator[Any]:
    hooks = Codec(os.urandom(16), encode_key, lambda kind, c, _ref: face(store, kind, c))
    store = Model(hooks)
    yield store
    hooks.close()


ENGINES: dict[str, Callable[[], Any]] = {"model": model}
