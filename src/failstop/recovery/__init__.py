"""Recovery: what must be proven before the service works again, and who looks."""

from failstop.recovery._monitor import Check, Dependency, Monitor, Questioned
from failstop.recovery._settings import Recovery, require_seconds

__all__ = ["Check", "Dependency", "Monitor", "Questioned", "Recovery", "require_seconds"]
