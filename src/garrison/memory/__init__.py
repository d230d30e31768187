"""Memory that processes really share: it has no names, and goes with its last user."""

from __future__ import annotations

from garrison.memory._handles import Inherited, Spot

__all__ = ["Inherited", "Spot"]
