"""All that a manager and its server import when they need it.

`garrison.managers` loads it with itself, `garrison.Manager` does not. A program that gives up its
privileges, or its view of the file system, imports the former first: later it may not find the
rest.
"""

from __future__ import annotations

import logging

from garrison._typing import Any
from garrison.manager.client._pipeline import Pipeline
from garrison.manager.server._dispatch import Dispatcher
from garrison.manager.server._in_process_client import InProcessClient
from garrison.manager.server._lock_service import LockService
from garrison.manager.server._object_table import ObjectTable
from garrison.manager.server._store_service import StoreService
from garrison.net import EventLoop, watch_keys
from garrison.pool import Pool
from garrison.store import back_up, canonical_key
from garrison.sync import Queue

__all__ = ["PARTS"]

PARTS: tuple[Any, ...] = (Pipeline, Dispatcher, InProcessClient, LockService, ObjectTable)
PARTS += (StoreService, EventLoop, watch_keys, Pool, back_up, canonical_key, Queue, logging)
