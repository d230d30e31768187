"""Containers that processes share: faces over a store."""

from garrison.store import _json as _json
from garrison.store._codec import Codec
from garrison.store._factory import face, make
from garrison.store._transaction import transaction
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
    "JoinableQueue",
    "List",
    "Namespace",
    "Queue",
    "Set",
    "Value",
    "face",
    "make",
    "transaction",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
