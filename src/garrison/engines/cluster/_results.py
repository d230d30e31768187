"""Results of a cluster's tasks, in the driver: values, exceptions, and what became of a node."""

from __future__ import annotations

import pickle
from typing import NamedTuple

from garrison._typing import Any
from garrison.engines.cluster._messages import ITEMS, LOST, RAW, UNLOADED, Pickled
from garrison.errors import TaskTimeout, WorkerDied
from garrison.pool.backends import (
    ItemError,
    Outcome,
    PayloadKind,
    decode_failure,
    decode_value,
    describe_call,
    facts_of_lost,
)

__all__ = [
    "Failed",
    "Raw",
    "decode",
    "decode_item",
    "has_begun",
    "is_failure",
    "is_lost",
    "item_to_try_again",
    "items_of",
    "lost_items",
]

_ENCODED = RAW, UNLOADED
Raw = tuple[str, str, int, Any, Any]
"""Node, name of the function, kind and data of the task, and its result as the node has sent it."""


class Failed(NamedTuple):
    """The result of a task whose node is gone."""

    node: str
    reason: str


def is_failure(raw: Raw) -> bool:
    """Whether a task has failed as a whole."""
    result = raw[-1]
    if isinstance(result, Failed) or result[0] == LOST:
        return True
    return result[0] in _ENCODED and result[1] != Outcome.OK


def decode(raw: Raw) -> tuple[Any, ...]:
    """Return success, value or exception, and nanoseconds."""
    node, function, kind, data, result = raw
    if isinstance(result, Failed):
        facts = {"node": node, "note": f"was lost with node {node} ({result.reason})"}
        return False, WorkerDied(_described(function, kind, 0, data), facts), 0
    if result[0] == LOST:
        _, payload, index, *_ = result
        facts = {**pickle.loads(payload), "node": node}  # noqa: S301 - written by the node's supervisor
        kind_of = TaskTimeout if facts["late"] else WorkerDied
        error = kind_of(_described(function, kind, index, data), facts)
        return False, error, 0, _facts_of_lost(kind, index, data, facts)
    if result[0] in _ENCODED:
        return _decode_encoded(node, *result[1:])
    if result[0] == ITEMS:
        return True, [decode_item(each) for each in result[1]], result[2]
    return True, result[1], 0


def _decode_encoded(
    node: str, outcome: int, payload: bytes, buffers: list[bytearray] | None, duration: int
) -> tuple[Any, ...]:
    if outcome != Outcome.OK:
        error, facts = decode_failure(payload, f"node {node}")
        return False, error, duration, facts
    try:
        return True, decode_value(payload, buffers), duration
    except Exception as error:
        return False, error, duration


def is_lost(raw: Raw | None) -> bool:
    """Whether the task's worker ended, on a node that goes on."""
    return raw is not None and not isinstance(raw[4], Failed) and raw[4][0] == LOST


def _facts_of_lost(kind: int, index: int, data: Any, exit_info: dict[str, Any]) -> Any:
    item_kind, pickled, place = _item(kind, index, data)
    found = facts_of_lost(item_kind, place, pickled, exit_info, 0.0)
    found.index = None if found.index is None else index
    found.worker += f" of node {exit_info['node']}"
    return found


def _described(function: str, kind: int, index: int, data: Any) -> str:
    kind, data, index = _item(kind, index, data)
    return describe_call(function, kind, index, data)


def _item(kind: int, index: int, data: Any) -> tuple[int, Any, int]:
    """Return the item of a task as one of its own, if its pickle is."""
    if kind == PayloadKind.PICKLED_ITEMS:
        return PayloadKind.ONE_ITEM, data[min(index, len(data) - 1)], 0
    return kind, data, index


def items_of(raw: Raw) -> tuple[list[Any] | None, Any, int, int]:
    """Return the encoded results of a task's items, or the result of the task as a whole."""
    result = raw[4]
    if not isinstance(result, Failed) and result[0] == ITEMS:
        size = sum(len(each[1]) for each in result[1] if type(each) is Pickled)
        return result[1], None, size, result[2]
    size = 0
    if not isinstance(result, Failed) and result[0] in _ENCODED:
        size = len(result[2]) + sum(map(len, result[3] or ()))
    return None, raw, size, 0


def has_begun(raw: Raw) -> bool:
    """Whether an item of a task was begun: else no worker could load them."""
    if is_lost(raw):
        return lost_items(raw)[2]
    return isinstance(raw[4], Failed) or raw[4][0] != UNLOADED


def item_to_try_again(result: Any) -> int | None:
    """Return the item at work if a task's worker was lost, and the task was not late."""
    if result[0] != LOST or pickle.loads(result[1])["late"]:  # noqa: S301 - written by its supervisor
        return None
    item: int = result[2]
    return item


def lost_items(raw: Raw) -> tuple[list[Any], int, bool]:
    """Return a lost task's finished items, the index of the one at work, and whether it began."""
    _, _, index, finished, begun = raw[4]
    return finished, index, begun


def decode_item(entry: Any) -> Any:
    """Decode one item's result; a failure is an `ItemError`."""
    if type(entry) is not Pickled:
        return entry
    succeeded, data = entry
    try:
        return decode_value(data, None) if succeeded else ItemError(*decode_failure(data))
    except Exception as error:
        return ItemError(error)
