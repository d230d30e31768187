"""What a client may ask a server for, by number."""

from __future__ import annotations

# Sessions.
HELLO = 1
"""(name of the client: 16 bytes, pid, host) -> (pid of the server, host)"""
SHUTDOWN = 2

# Objects of registered types. Payloads are in the manager's serializer.
CREATE = 10
"""(typeid, payload of (args, kwds), thread) -> (ident, exposed)"""
CALL = 11
"""(ident, method, payload of (args, kwds) or empty, thread) -> (0, payload) or (1, typeid, ident,
exposed, payload of the proxy type or empty)"""
HOLD = 12
"""(ident)"""
DROP = 13
"""(idents)"""
SEND = 14
"""(ident): hold it until somebody says RECEIVED."""
RECEIVED = 15
"""(ident, name of the sender): hold it, and end the sender's SEND."""
METHODS = 16
"""(ident) -> (exposed)"""
COUNT = 17
DEBUG = 18
RING = 19
"""(payload of a pair of queues, thread): serve calls through them."""

# Containers and locks.
STORE = 30
"""(operation, arguments...) -> what the operation gives"""
LEASE = 40
"""(operation, arguments...)"""

# Why a request of a lock failed.
NOT_YOURS = "not yours"
LOAN_OVER = "loan over"
WRONG_KIND = "wrong kind"
UNKNOWN = "unknown"
"""Nothing is lent under the name; it was not asked of anything."""
