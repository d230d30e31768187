"""Where garrison has no processes of its own, its backend is joblib's."""

from __future__ import annotations

from joblib.parallel import LokyBackend, register_parallel_backend

__all__ = ["GarrisonBackend", "register", "shutdown"]


class GarrisonBackend(LokyBackend):  # type: ignore[misc] # joblib has no types
    """joblib's loky, under the name that a program asks for."""


def register() -> None:
    """Make ``backend="garrison"`` known to joblib."""
    register_parallel_backend("garrison", GarrisonBackend)


def shutdown() -> None:
    """Do nothing: loky ends idle workers by itself."""
