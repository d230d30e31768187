"""Processes: how they are started, and the supervisor that keeps a pool's workers alive."""

from garrison.process._handle import Supervision
from garrison.process._supervisor import Crew, supervise

__all__ = ["Crew", "Supervision", "supervise"]
