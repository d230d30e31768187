"""How values and keys are stored."""

from typing import Any, Protocol

class StoreHooks(Protocol):
    """What the core asks of Python: how to pickle, and which class a container has."""

    @property
    def uuid(self) -> bytes:
        """The identity of the store."""

    def dumps(self, obj: Any, /) -> bytes:
        """Pickle a value."""

    def loads(self, data: bytes, /) -> Any:
        """Unpickle a value."""

    def key(self, obj: Any, /) -> bytes:
        """Return the canonical form of a key."""

    def container(self, kind: int, c: int, is_ref: bool, /) -> Any:
        """Return the object for a container that was read."""

def encode_value(obj: Any, hooks: StoreHooks) -> bytes:
    """An object in its encoding."""

def decode_value(encoded: bytes, hooks: StoreHooks) -> Any:
    """What an encoding stands for; a container becomes a plain object."""

def encode_key(obj: Any, hooks: StoreHooks) -> tuple[bytes, bytes]:
    """The canonical form of a key, and the original where that does not tell."""

def decode_key(canonical: bytes, original: bytes, hooks: StoreHooks) -> Any:
    """The key of a canonical form and an original."""

def holds_pickle(encoded: bytes) -> bool:
    """Whether an encoded value is, or holds, something that its reader would unpickle."""
