"""A proxy between a client and PostgreSQL that fails on command, or at a named moment."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from failstop.testing._connection import Cause, Conditions, Connection, Due, Lane
from failstop.testing._faults import Call, Change, Done, Fault, Faults
from failstop.testing._loop import LoopThread
from failstop.testing._protocol import Message
from failstop.testing._server import PostgresServer, reserve_port

__all__ = ["FaultProxy", "Moment", "Strike"]

_BACKLOG = 4096
_REMEMBERED = 10_000


class Strike:
    """A fault that waits for its moment, and tells when it has come."""

    def __init__(self, moment: Moment, fault: Fault) -> None:
        self.count: int = 0
        self._moment = moment
        self._fault = fault
        self._seen = 0
        self._hits = 0
        self._done = threading.Event()
        self._error: BaseException | None = None

    @property
    def due(self) -> Due:
        """When it strikes, seen from the message that its moment names."""
        return self._moment.due

    @property
    def happened(self) -> bool:
        """Whether it has struck; `count` says how often."""
        return self._done.is_set()

    def wait(self, timeout: float = 10.0) -> None:
        """Return as soon as the fault is in force.

        In a coroutine: `await asyncio.to_thread(strike.wait)`.

        Raises:
            TimeoutError: the moment did not come in `timeout` seconds.
            Exception: what the function of `call()` raised.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"{self._moment} did not come in {timeout} s")
        if self._error is not None:
            raise self._error

    def is_met_by(self, message: Message) -> bool:
        """Say whether this message is its moment, and count it; for the proxy's thread only."""
        for _ in filter(self._moment.is_named, message.runs):
            self._seen += 1
            if self._seen >= self._moment.nth and self._hits < self._moment.times:
                self._hits += 1
                return True
        return False

    async def strike(self, connection: Connection) -> None:
        """Inflict the fault; for the proxy's thread only."""
        await self._moment.inflict(self._fault, connection, self._tell)

    def _tell(self, error: BaseException | None) -> None:
        self._error = self._error or error
        self.count += 1
        self._done.set()


class Moment(Faults[Strike]):
    """A moment of the conversation; its verbs arm a fault for it and return the `Strike`."""

    def __init__(
        self,
        proxy: FaultProxy,
        what: str | re.Pattern[str],
        due: Due,
        *,
        nth: int,
        times: int | None,
        everywhere: bool,
    ) -> None:
        if nth < 1 or (times is not None and times < 1):
            raise ValueError("nth and times must be 1 or more; times=None is without end")
        self.due = due
        self.nth = nth
        self.times: float = float("inf") if times is None else times
        self._what = what
        self._pattern = _compile(what) if isinstance(what, str) else what
        self._everywhere = everywhere
        self._proxy = proxy

    def __str__(self) -> str:
        what = self._what if isinstance(self._what, str) else self._what.pattern
        return f"{self.due.value} {what!r}"

    def call(self, function: Callable[[], object]) -> Strike:
        """Call `function` once, on a thread, while nothing passes on the connection.

        It breaks at a moment what is not the network: `after("COMMIT").call(server.kill)`.
        """
        return self._inflict(Call(function))

    def watch(self) -> Strike:
        """Do nothing; the `Strike` tells that the moment has come."""
        return self._inflict(Change((), {}))

    def is_named(self, statement: str) -> bool:
        """Say whether a statement is the one that this moment names."""
        if isinstance(self._what, str):
            return self._pattern.match(statement) is not None
        return self._pattern.search(statement) is not None

    async def inflict(self, fault: Fault, connection: Connection, done: Done) -> None:
        """Inflict `fault` where this moment says; for the proxy's thread only."""
        if self._everywhere and not isinstance(fault, Call):
            await self._proxy.inflict_everywhere(fault, done)
        else:
            await fault.inflict(connection, done)

    def _inflict(self, fault: Fault) -> Strike:
        return self._proxy.arm(Strike(self, fault))


class FaultProxy(Faults[None]):
    """A TCP proxy in front of a PostgreSQL that breaks connections now, or at a named moment.

    Faults strike every connection, and last for new ones, until `heal()`: `reset()` and
    `half_open()` strike those that are open. `after("COMMIT").reset()` strikes one connection, at
    that moment. Moments are known by the statements that the client sends, as a simple query or in
    the extended protocol; within TLS, which passes through untouched, there are none.

    It works on a thread of its own, so that sync and async tests use it alike: as a context
    manager, or with `start()` and `close()`. `upstream` is a server, or its host and port.

    Raises:
        OSError: `host` and `port` cannot be listened on, or the upstream's name has no address.
    """

    def __init__(
        self,
        upstream: PostgresServer | tuple[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.redirect(upstream)
        self.host = host
        self._reserved = reserve_port(host, port)
        self.port: int = self._reserved.getsockname()[1]
        self._thread = LoopThread("failstop-fault-proxy")
        self._listener: _Listener | None = None
        self._numbers = itertools.count(1)
        self._connections: set[Connection] = set()
        self._conditions = {"to_server": Conditions(), "to_client": Conditions()}
        self._strikes: list[Strike] = []
        self._log = _Log()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Start and end

    def start(self) -> None:
        """Accept connections; returns when it does.

        Raises:
            RuntimeError: it runs already, or was closed.
        """
        self._thread.start()
        self._thread.do(self._listen)

    def close(self) -> None:
        """Reset every connection and end; may be called again.

        Raises:
            Exception: what broke in the proxy itself meanwhile, so that no test passes by luck.
        """
        if self._thread.is_running:
            self._thread.do(self._shut)
            self._thread.stop()
        self._reserved.close()

    # What it shows

    def url(self, url: str) -> str:
        """Return a database URL, of any driver, with the proxy's address in it."""
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        query = [(k, v) for k, v in parse_qsl(parts.query) if k not in {"host", "port", "hostaddr"}]
        netloc = f"{user}@{self.host}:{self.port}" if user else f"{self.host}:{self.port}"
        return urlunsplit(parts._replace(netloc=netloc, query=urlencode(query)))

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    @property
    def round_trips(self) -> int:
        """How often a client has waited for the server so far, connecting included."""
        return self._log.round_trips

    @property
    def messages(self) -> list[Message]:
        """The last 10 000 messages that came to the proxy, in their order."""
        return self._log.messages

    def redirect(self, upstream: PostgresServer | tuple[str, int]) -> None:
        """Lead new connections to another server, as an address does after a failover.

        Open ones stay with theirs: `reset()` ends them.

        Raises:
            OSError: the upstream's name has no address.
        """
        if isinstance(upstream, PostgresServer):
            upstream = ("127.0.0.1", upstream.port)
        self._upstream = socket.getaddrinfo(*upstream, type=socket.SOCK_STREAM)[0]

    # Faults that only a proxy has

    def refuse(self) -> None:
        """Refuse new connections, as where no server runs; open ones work on."""
        self._thread.do(self._stop_listening)

    def ignore(self) -> None:
        """Leave new connections without any answer, even the kernel's (Linux only).

        Open ones work on. It is what a firewall or a host that is gone does: connecting hangs.

        Raises:
            NotImplementedError: not on Linux, whose full backlog drops what comes.
        """
        if sys.platform != "linux":
            raise NotImplementedError("ignore() needs Linux; use black_hole() here")
        self._thread.do(self._ignore)

    def stall_tls(self) -> Strike:
        """Accept every request for TLS and never answer it, until `heal()`."""
        return self.after("SSLREQUEST", forwarded=False, times=None).black_hole()

    def heal(self) -> None:
        """End every fault that lasts, and disarm every strike that has not happened."""
        self._thread.do(self._heal)

    # Moments

    def after(
        self,
        statement: str | re.Pattern[str],
        *,
        forwarded: bool = True,
        nth: int = 1,
        times: int | None = 1,
        everywhere: bool = False,
    ) -> Moment:
        """Name the moment when a client has sent `statement`.

        With `forwarded` the server has got it, and its answer comes to nobody before the fault; how
        far it got is open. Without, the server has not got it: a fault that lets bytes pass lets it
        go on afterwards. `statement` is the first words of a statement, whatever their case, or a
        pattern to be found in it; also `"STARTUP"`, `"SSLREQUEST"`, `"TERMINATE"`, `"CANCEL"`. The
        fault strikes at the `nth` of them, so many `times` (None: always), on the connection that
        sent it, or `everywhere`.

        Raises:
            ValueError: a number is below 1, or the statement is empty.
        """
        due = Due.AFTER_FORWARD if forwarded else Due.BEFORE_FORWARD
        return Moment(self, statement, due, nth=nth, times=times, everywhere=everywhere)

    def before_reply(
        self,
        statement: str | re.Pattern[str],
        *,
        nth: int = 1,
        times: int | None = 1,
        everywhere: bool = False,
    ) -> Moment:
        """Name the moment when the server has answered `statement`, but nobody was told.

        After `before_reply("COMMIT")` the transaction is committed, and the client cannot know. See
        `after` for the rest.

        Raises:
            ValueError: a number is below 1, or the statement is empty.
        """
        return Moment(
            self, statement, Due.BEFORE_REPLY, nth=nth, times=times, everywhere=everywhere
        )

    def after_reply(
        self,
        statement: str | re.Pattern[str],
        *,
        nth: int = 1,
        times: int | None = 1,
        everywhere: bool = False,
    ) -> Moment:
        """Name the moment when the client has been sent the whole answer to `statement`.

        See `after` for the rest.

        Raises:
            ValueError: a number is below 1, or the statement is empty.
        """
        return Moment(self, statement, Due.AFTER_REPLY, nth=nth, times=times, everywhere=everywhere)

    def arm(self, strike: Strike) -> Strike:
        """Arm a strike; the verbs of a `Moment` do."""
        self._thread.do(self._arm, strike)
        return strike

    # On the proxy's thread

    async def inflict_everywhere(self, fault: Fault, done: Done) -> None:
        """Inflict `fault` on every connection; for the proxy's thread only."""
        if isinstance(fault, Change):
            fault.apply(self._conditions)
        targets = list(self._connections)
        left = itertools.count(len(targets) - 1, -1)

        def one_is_done(error: BaseException | None) -> None:
            if next(left) == 0:
                done(error)

        for connection in targets:
            await fault.inflict(connection, one_is_done)
        if not targets:
            done(None)

    def _inflict(self, fault: Fault) -> None:
        self._thread.do(self._inflict_and_wait, fault)

    async def _inflict_and_wait(self, fault: Fault) -> None:
        done = asyncio.Event()
        await self.inflict_everywhere(fault, lambda _: done.set())
        await done.wait()

    async def _arm(self, strike: Strike) -> None:
        self._strikes.append(strike)

    async def _heal(self) -> None:
        self._strikes.clear()
        self._conditions = {name: Conditions() for name in self._conditions}
        for connection in self._connections:
            for lane in connection.lanes.values():
                lane.conditions = Conditions()
        await self._listen()

    async def _listen(self) -> None:
        await self._stop_listening()
        self._listener = _Listener(self.host, self.port)
        self._listener.task = self._thread.spawn(self._listener.accept(self._serve_soon))

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    async def _ignore(self) -> None:
        await self._stop_listening()
        self._listener = _Listener(self.host, self.port, backlog=0)
        await self._listener.fill()

    async def _shut(self) -> None:
        await self._stop_listening()
        for connection in self._connections:
            connection.end(None, lambda: None)

    def _serve_soon(self, client: socket.socket) -> None:
        self._thread.spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lanes = {name: Lane(conditions) for name, conditions in self._conditions.items()}
        connection = Connection(next(self._numbers), client, lanes, self._observe)
        self._connections.add(connection)
        try:
            await connection.run(self._connect)
        finally:
            self._connections.discard(connection)

    async def _connect(self) -> socket.socket:
        family, kind, protocol, _, address = self._upstream
        server = socket.socket(family, kind, protocol)
        try:
            server.setblocking(False)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(server, address)
        except BaseException:
            server.close()
            raise
        return server

    def _observe(self, message: Message) -> list[Cause]:
        self._log.add(message)
        return [strike for strike in self._strikes if strike.is_met_by(message)]


class _Log:
    """The last messages, and how often somebody waited for one."""

    def __init__(self) -> None:
        self.round_trips = 0
        self._messages: deque[Message] = deque(maxlen=_REMEMBERED)
        self._asking: set[int] = set()
        self._lock = threading.Lock()

    @property
    def messages(self) -> list[Message]:
        with self._lock:
            return list(self._messages)

    def add(self, message: Message) -> None:
        with self._lock:
            self._messages.append(message)
        if message.sender == "client":
            self._asking.add(message.connection)
        elif message.connection in self._asking:
            self._asking.remove(message.connection)
            self.round_trips += 1


class _Listener:
    """A listening socket, and who accepts from it."""

    def __init__(self, host: str, port: int, *, backlog: int = _BACKLOG) -> None:
        self.task: asyncio.Task[None] | None = None
        self._filler: socket.socket | None = None
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        self._socket.listen(backlog)
        self._socket.setblocking(False)

    async def accept(self, serve: Callable[[socket.socket], None]) -> None:
        """Hand every client to `serve`, until it is cancelled.

        Not with `sock_accept()`: cancelled when a client was just accepted, it loses the socket.
        """
        loop = asyncio.get_running_loop()
        broken: asyncio.Future[None] = loop.create_future()

        def take() -> None:
            try:
                client, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return  # it is gone again
            except OSError as error:
                loop.remove_reader(self._socket)
                broken.set_exception(error)
                return
            client.setblocking(False)
            serve(client)

        loop.add_reader(self._socket, take)
        try:
            await broken
        finally:
            loop.remove_reader(self._socket)

    async def fill(self) -> None:
        """Take the only place of a backlog of 0, which nobody empties: the next SYN is dropped."""
        self._filler = socket.socket()
        self._filler.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self._filler, self._socket.getsockname())

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        self._socket.close()
        if self._filler is not None:
            self._filler.close()


def _compile(words: str) -> re.Pattern[str]:
    if not words.split():
        raise ValueError("a moment needs the first words of a statement")
    return re.compile(r"\s+".join(map(re.escape, words.split())) + r"(?!\w)", re.IGNORECASE)
