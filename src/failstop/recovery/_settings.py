"""How recovery is proven, checked at construction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from failstop._settings import require_seconds
from failstop.errors import ConfigurationError

__all__ = ["CheckFunction", "Recovery", "require_seconds"]

CheckFunction = Callable[[], bool | Awaitable[bool]]
"""Passes by returning True; anything else returned, and anything raised, is a failed check."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How fail-safe mode is left.

    Args:
        mode: "automatic" leaves it when everything is proven, "manual" waits for a person.
        probe_interval: seconds between two check rounds, in every state.
        consecutive: rounds that must pass in a row.
        checks: the user's own checks, made in every round while the service is not NORMAL.
        round_timeout: seconds after which a check round that has not ended is a failure.
        check_timeout: seconds that each of the user's own checks may take, where it sets no other.

    Raises:
        ConfigurationError: a setting is out of its range.
    """

    mode: Literal["automatic", "manual"] = "automatic"
    probe_interval: float = 1.0
    consecutive: int = 3
    checks: Sequence[CheckFunction] = ()
    round_timeout: float = 30.0
    check_timeout: float = 10.0

    def __post_init__(self) -> None:
        if self.mode not in ("automatic", "manual"):
            raise ConfigurationError(f"recovery mode {self.mode!r} is neither automatic nor manual")
        require_seconds("probe_interval", self.probe_interval)
        require_seconds("round_timeout", self.round_timeout)
        require_seconds("check_timeout", self.check_timeout)
        if isinstance(self.consecutive, bool) or not isinstance(self.consecutive, int):
            raise ConfigurationError("consecutive must be a whole number of rounds")
        if self.consecutive < 1:
            raise ConfigurationError("consecutive must be at least 1")
        if not all(callable(check) for check in self.checks):
            raise ConfigurationError("every one of checks must be callable")
        object.__setattr__(self, "checks", tuple(self.checks))

    @property
    def is_automatic(self) -> bool:
        """True where no person is needed once everything is proven."""
        return self.mode == "automatic"

    @property
    def freshness(self) -> float:
        """Seconds after which an observation proves nothing: two intervals and a slow probe."""
        return 2 * self.probe_interval + 1.0
