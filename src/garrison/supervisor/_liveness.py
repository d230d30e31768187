"""How often the parent checks its supervisor: a module without imports, for all who wait."""

from __future__ import annotations

__all__ = ["LIVENESS_CHECK_INTERVAL_S"]

LIVENESS_CHECK_INTERVAL_S = 0.1
"""Seconds between two checks of the supervisor while waiting for a task: if the supervisor and all
workers are killed at once, no process is left to wake the parent."""
