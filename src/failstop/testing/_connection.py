"""One connection through the proxy: two lanes, the faults on them, and the moments they strike at.

Everything here runs on the proxy's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from failstop.testing._protocol import Conversation, Message

__all__ = ["Cause", "Conditions", "Connection", "Due", "Lane", "Side"]

Side = Literal["client", "server"]

_BURST = 65536
_TICK = 0.01  # a throttled lane sends this often, in seconds
_NO_LINGER = struct.pack("ii", 1, 0)  # close sends RST
_ANSWERS_FLUSH = {"CommandComplete", "EmptyQueryResponse", "ErrorResponse", "PortalSuspended"}
_WAITS_FOR_CLIENT = {
    "CopyBothResponse",
    "CopyInResponse",
    "EncryptionAnswer",
    "ReadyForQuery",
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """How bytes travel in one direction: seconds, bytes a second."""

    is_blocked: bool = False
    latency: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    drip: float | None = None


class Due(Enum):
    """When a moment comes, seen from the message that it names."""

    BEFORE_FORWARD = "before"
    AFTER_FORWARD = "after"
    BEFORE_REPLY = "before the reply to"
    AFTER_REPLY = "after the reply to"


class Cause(Protocol):
    """What strikes a connection at a moment."""

    @property
    def due(self) -> Due:
        """When it strikes."""

    async def strike(self, connection: Connection) -> None:
        """Inflict the fault."""


class Lane:
    """One direction, under conditions that may change at any time."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._changed = asyncio.Event()
        self._holders = 0
        self._waiting = bytearray()

    @property
    def conditions(self) -> Conditions:
        """The conditions now; a new value wakes who waits under the old one."""
        return self._conditions

    @conditions.setter
    def conditions(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._wake()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing pass meanwhile."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._wake()

    async def open(self) -> None:
        """Return when bytes may pass."""
        while self._holders or self._conditions.is_blocked:
            await self._changed.wait()

    def put(self, data: bytes) -> None:
        """Keep `data` for the next flush."""
        self._waiting += data

    async def flush(self, target: socket.socket) -> None:
        """Send what was put, as fast as the conditions let it."""
        data, self._waiting = memoryview(bytes(self._waiting)), bytearray()
        loop = asyncio.get_running_loop()
        await self._delay()
        while data:
            await self.open()
            size, pause = self._portion(len(data))
            await loop.sock_sendall(target, data[:size])
            data = data[size:]
            if pause and data:
                await self._sleep(pause)

    def _portion(self, length: int) -> tuple[int, float]:
        """Return how many bytes go next, and the seconds to the ones after them."""
        if self._conditions.drip is not None:
            return 1, self._conditions.drip
        if self._conditions.rate is not None:
            size = min(length, max(1, int(self._conditions.rate * _TICK)))
            return size, size / self._conditions.rate
        return length, 0.0

    async def _delay(self) -> None:
        jitter = random.uniform(-1, 1) * self._conditions.jitter  # noqa: S311 - no secret
        if self._conditions.latency:
            await self._sleep(self._conditions.latency + jitter)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not on under conditions that have changed."""
        loop, conditions = asyncio.get_running_loop(), self._conditions
        until = loop.time() + seconds
        while conditions is self._conditions and (left := until - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Connection:
    """A client's connection, and the one to the server that was made for it."""

    def __init__(
        self,
        number: int,
        client: socket.socket,
        lanes: Mapping[str, Lane],
        observe: Callable[[Message], list[Cause]],
    ) -> None:
        self.lanes = lanes
        self._up, self._down = lanes["to_server"], lanes["to_client"]
        self._client = client
        self._server: socket.socket | None = None
        self._observe = observe
        self._talk = Conversation(number)
        self._due: list[tuple[int, Cause]] = []
        self._flushed: set[int] = set()
        self._is_over = False
        self._is_reset = False
        self._survivor: socket.socket | None = None
        self._when_over: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None

    async def run(self, connect: Callable[[], Awaitable[socket.socket]]) -> None:
        """Pass bytes until both sides have ended, or a fault ends them."""
        self._task = asyncio.current_task()
        try:
            self._server = await connect()
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump_to_server(self._client, self._server))
                pumps.create_task(self._pump_to_client(self._server, self._client))
        except* OSError:  # one side was reset: so is the other
            self._is_reset = True
        except* asyncio.CancelledError:
            pass
        finally:
            self._close()
        if self._survivor is not None:
            try:
                await _swallow(self._survivor)
            finally:
                self._survivor = None
                self._close()

    def end(self, survivor: Side | None, when_over: Callable[[], None]) -> None:
        """Reset both sides, or the one that does not survive; bytes of a survivor go nowhere."""
        self._is_over = self._is_reset = True
        self._survivor = {"client": self._client, "server": self._server}.get(survivor or "")
        self._when_over.append(when_over)
        if self._task is not None:
            self._task.cancel()

    def _close(self) -> None:
        while self._when_over:
            self._when_over.pop()()  # first: who sees the end may ask whether it was struck
        for side in (self._client, self._server):
            if side is None or side is self._survivor or side.fileno() < 0:
                continue
            if self._is_reset:
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            side.close()

    async def _pump_to_server(self, client: socket.socket, server: socket.socket) -> None:
        while data := await _receive(client, self._up):
            for message, raw in self._talk.from_client(data):
                causes = self._observe(message)
                self._due += [(message.flight, cause) for cause in causes]
                await self._strike(Due.BEFORE_FORWARD, message.flight, self._up, server)
                self._up.put(raw)
                if message.kind == "Flush":
                    self._flushed.add(message.flight)
                if message.ends_turn:
                    await self._strike(Due.AFTER_FORWARD, message.flight, self._up, server)
            await self._up.flush(server)
        await self._up.open()
        server.shutdown(socket.SHUT_WR)

    async def _pump_to_client(self, server: socket.socket, client: socket.socket) -> None:
        is_kept = False
        while data := await _receive(server, self._down):
            for message, raw in self._talk.from_server(data):
                self._observe(message)
                if not is_kept and self._is_due(Due.BEFORE_REPLY, message.flight):
                    await self._down.flush(client)  # the answers before it are not part of it
                    is_kept = True
                self._down.put(raw)
                if is_kept and self._is_answered(message):
                    await self._strike(Due.BEFORE_REPLY, message.flight)
                    is_kept = False
                if message.kind in _WAITS_FOR_CLIENT:
                    self._flushed.discard(message.flight)
                    await self._strike(Due.AFTER_REPLY, message.flight, self._down, client)
            if not is_kept:
                await self._down.flush(client)
        await self._down.flush(client)  # the server went before its answer was whole
        await self._down.open()
        client.shutdown(socket.SHUT_WR)

    def _is_answered(self, message: Message) -> bool:
        """Say whether a kept answer can be longer no more, since the client has to go on first."""
        is_flushed = message.flight in self._flushed and message.kind in _ANSWERS_FLUSH
        return message.kind in _WAITS_FOR_CLIENT or message.flight == 0 or is_flushed

    def _is_due(self, due: Due, flight: int) -> bool:
        return any(cause.due is due and number == flight for number, cause in self._due)

    async def _strike(
        self, due: Due, flight: int, lane: Lane | None = None, target: socket.socket | None = None
    ) -> None:
        """Let every cause strike that is due, after what goes before it was sent."""
        if not self._is_due(due, flight):
            return
        if lane is not None and target is not None:
            await lane.flush(target)
        struck = [cause for number, cause in self._due if cause.due is due and number == flight]
        self._due = [(n, c) for n, c in self._due if not (c.due is due and n == flight)]
        with self._up.held(), self._down.held():
            for cause in struck:
                await cause.strike(self)
        if self._is_over:
            await asyncio.Event().wait()  # until the cancellation arrives: not a byte more


async def _receive(side: socket.socket, lane: Lane) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(side, _BURST)
    except OSError:
        await lane.open()  # news of an end travels no faster than bytes
        raise


async def _swallow(side: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):  # it is gone too
        while await loop.sock_recv(side, _BURST):
            pass
