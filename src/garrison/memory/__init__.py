"""Memory that processes really share: it has no names, and goes with its last user."""

from __future__ import annotations

from garrison.memory import _handles as _handles  # a spot can be pickled from here on
