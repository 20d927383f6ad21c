"""What can go wrong on a connection, and the verbs that say so.

The verbs are written once: on a `FaultProxy` they strike now, on a `Moment` when that comes.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from failstop.testing._connection import Conditions, Connection, Side

__all__ = ["Call", "Change", "Direction", "Done", "Fault", "Faults"]

Direction = Literal["both", "to_server", "to_client"]
Told = TypeVar("Told")
Done = Callable[[BaseException | None], None]

_LANES = {
    "both": ("to_server", "to_client"),
    "to_server": ("to_server",),
    "to_client": ("to_client",),
}
_SURVIVORS: dict[str, Side] = {"server": "client", "client": "server"}


class Fault(Protocol):
    """What can be done to a connection, on the proxy's event loop."""

    async def inflict(self, connection: Connection, done: Done) -> None:
        """Do it, and see that `done` is called when it is in force, or with what failed."""


@dataclass(frozen=True)
class Change:
    """From now on bytes travel differently."""

    lanes: tuple[str, ...]
    conditions: dict[str, Any]

    async def inflict(self, connection: Connection, done: Done) -> None:
        """Change the lanes of `connection`."""
        for name in self.lanes:
            lane = connection.lanes[name]
            lane.conditions = replace(lane.conditions, **self.conditions)
        done(None)

    def apply(self, conditions: dict[str, Conditions]) -> None:
        """Change what new connections begin with."""
        for name in self.lanes:
            conditions[name] = replace(conditions[name], **self.conditions)


@dataclass(frozen=True)
class _Cut:
    """The connection ends, with TCP's RST; a survivor is not told."""

    survivor: Side | None

    async def inflict(self, connection: Connection, done: Done) -> None:
        connection.end(self.survivor, lambda: done(None))


@dataclass(frozen=True)
class Call:
    """A function is called, while nothing passes on the connection."""

    function: Callable[[], object]

    async def inflict(self, connection: Connection, done: Done) -> None:
        """Call the function on a thread; `done` hears of it even where the connection ends."""
        work = asyncio.get_running_loop().run_in_executor(None, self.function)
        work.add_done_callback(lambda _: done(work.exception()))
        await asyncio.wait([work])


class Faults(ABC, Generic[Told]):
    """The verbs for faults. Durations are seconds; a direction is where the bytes go."""

    @abstractmethod
    def _inflict(self, fault: Fault) -> Told: ...

    def reset(self) -> Told:
        """End the connection with RST on both sides: the client sees "connection reset"."""
        return self._inflict(_Cut(None))

    def half_open(self, gone: Side = "server") -> Told:
        """End one side without telling the other, whose bytes go nowhere from then on.

        With the server gone, the client waits for an answer that never comes. With the client gone,
        the server keeps its transaction open until it has an answer to send.

        Raises:
            ValueError: `gone` is neither "server" nor "client".
        """
        if gone not in _SURVIVORS:
            raise ValueError('gone must be "server" or "client"')
        return self._inflict(_Cut(_SURVIVORS[gone]))

    def black_hole(self, direction: Direction = "both") -> Told:
        """Let nothing pass and tell nobody; after `heal()` what was sent arrives, as in TCP.

        Raises:
            ValueError: the direction is unknown.
        """
        return self._inflict(_change(direction, is_blocked=True))

    def latency(
        self, seconds: float, *, jitter: float = 0.0, direction: Direction = "both"
    ) -> Told:
        """Delay every burst by `seconds`, more or less `jitter`; a round trip on both lanes by two.

        Raises:
            ValueError: a duration is negative or no number, or the jitter above the delay.
        """
        _check("seconds", seconds)
        _check("jitter", jitter)
        if jitter > seconds:
            raise ValueError("jitter must not be above the latency")
        return self._inflict(_change(direction, latency=seconds, jitter=jitter))

    def throttle(self, bytes_per_second: float, *, direction: Direction = "both") -> Told:
        """Let no more than so many bytes a second pass on each connection.

        Raises:
            ValueError: the rate is not above zero.
        """
        _check("bytes_per_second", bytes_per_second, is_zero_allowed=False)
        return self._inflict(_change(direction, rate=bytes_per_second))

    def slow_drip(self, interval: float = 0.1, *, direction: Direction = "both") -> Told:
        """Let one byte pass every `interval` seconds: enough to keep a naive timeout from firing.

        Raises:
            ValueError: the interval is not above zero.
        """
        _check("interval", interval, is_zero_allowed=False)
        return self._inflict(_change(direction, drip=interval))


def _change(direction: Direction, **conditions: float | bool) -> Change:
    if direction not in _LANES:
        raise ValueError(f"direction must be one of {', '.join(_LANES)}")
    return Change(_LANES[direction], conditions)


def _check(name: str, value: float, *, is_zero_allowed: bool = True) -> None:
    if not (math.isfinite(value) and (value > 0 or (is_zero_allowed and value == 0))):
        bound = "zero or more" if is_zero_allowed else "above zero"
        raise ValueError(f"{name} must be a finite number, {bound}")
