"""What was last observed of a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DatabaseHealth"]


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """The monitor's last observation; `latency` and `age` in seconds, None where there is none.

    `status` is "unknown" where the observation is too old or missing: never "up".
    """

    name: str
    status: Literal["up", "down", "unknown"]
    latency: float | None
    age: float | None

    @property
    def is_up(self) -> bool:
        """True where a fresh observation found the database well."""
        return self.status == "up"
