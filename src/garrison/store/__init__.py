"""Containers that processes share, in a store on this machine or behind a server."""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from garrison.store._backend import Kind
    from garrison.store._backups import back_up
    from garrison.store._canonical_keys import canonical_key
    from garrison.store._codec import Codec
    from garrison.store._factory import create_container, get_container
    from garrison.store._files import ServerLock
    from garrison.store._inspection import Inspection, inspect_folder
    from garrison.store._local_store import (
        LocalStore,
        claim_server_lock,
        create_in_memory,
        open_directory,
    )
    from garrison.store._references import ReferenceCounts
    from garrison.store._shared_store import SharedStore, StoreCodec
    from garrison.store._transaction import PythonTransaction, transaction
    from garrison.store.containers._array import Array
    from garrison.store.containers._counter import Counter
    from garrison.store.containers._deque import Deque
    from garrison.store.containers._dict import Dict
    from garrison.store.containers._list import List
    from garrison.store.containers._namespace import Namespace
    from garrison.store.containers._queue import JoinableQueue, Queue
    from garrison.store.containers._set import Set
    from garrison.store.containers._value import Value

__all__ = [
    "Array",
    "Codec",
    "Counter",
    "Deque",
    "Dict",
    "Inspection",
    "JoinableQueue",
    "Kind",
    "List",
    "LocalStore",
    "Namespace",
    "PythonTransaction",
    "Queue",
    "ReferenceCounts",
    "ServerLock",
    "Set",
    "SharedStore",
    "StoreCodec",
    "Value",
    "back_up",
    "canonical_key",
    "claim_server_lock",
    "create_container",
    "create_in_memory",
    "get_container",
    "inspect_folder",
    "open_directory",
    "transaction",
]

_HOMES = {
    "_backend": ("Kind",),
    "_backups": ("back_up",),
    "_canonical_keys": ("canonical_key",),
    "_codec": ("Codec",),
    "_factory": ("create_container", "get_container"),
    "_files": ("ServerLock",),
    "_inspection": ("Inspection", "inspect_folder"),
    "_local_store": (
        "LocalStore",
        "claim_server_lock",
        "create_in_memory",
        "open_directory",
    ),
    "_references": ("ReferenceCounts",),
    "_shared_store": ("SharedStore", "StoreCodec"),
    "_transaction": ("PythonTransaction", "transaction"),
    "containers._array": ("Array",),
    "containers._counter": ("Counter",),
    "containers._deque": ("Deque",),
    "containers._dict": ("Dict",),
    "containers._list": ("List",),
    "containers._namespace": ("Namespace",),
    "containers._queue": ("JoinableQueue", "Queue"),
    "containers._set": ("Set",),
    "containers._value": ("Value",),
}
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, globals(), _HOMES)
