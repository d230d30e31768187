"""Processes: how they are started, and the supervisor that keeps a pool's workers alive."""

from garrison.supervisor._handle import Supervision
from garrison.supervisor._loop import Crew, supervise

__all__ = ["Crew", "Supervision", "supervise"]
