"""Fail-fast primitives for services whose database is the single source of truth."""

from failstop._failsafe import FailSafe
from failstop._latch import State

__all__ = ["FailSafe", "State"]
