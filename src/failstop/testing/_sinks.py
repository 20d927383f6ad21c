"""For sinks: a real HTTP server that answers as told or misbehaves, and what a sink must pass."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

from failstop.alerts import Alert, AlertAction, AlertSink, Severity
from failstop.errors import ErrorCode

__all__ = [
    "HttpAnswer",
    "HttpFault",
    "HttpReceiver",
    "HttpRequest",
    "SinkConformance",
    "sample_alert",
]


class HttpFault(Enum):
    """How a receiver misbehaves instead of answering."""

    SILENCE = "reads the request and never answers"
    GARBAGE = "answers with bytes that are no HTTP"
    DRIP = "answers one byte after the other and never ends"
    DROP = "closes the connection without an answer"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a receiver answers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class HttpReceiver:
    """A real HTTP server on loopback, for a `with` block; `requests` holds what came.

    Args:
        respond: called with each request; returns its answer, or a fault to play.
    """

    def __init__(
        self, respond: Callable[[HttpRequest], HttpAnswer | HttpFault] = lambda _: HttpAnswer()
    ) -> None:
        self.requests: list[HttpRequest] = []
        self.respond = respond
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, self._closing))
        self.url: str = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="http-receiver", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and end every connection; closing twice does no harm."""
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(receiver: HttpReceiver, closing: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10.0

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the sink gave up first
                self.close_connection = True

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            came = HttpRequest(self.command, self.path, dict(self.headers.items()), body)
            receiver.requests.append(came)
            answer = receiver.respond(came)
            self.close_connection = True
            if isinstance(answer, HttpFault):
                self._misbehave(answer)
            else:
                self._answer(answer)

        do_GET = do_HEAD = do_POST = do_PUT = _take  # noqa: N815 - the names http.server calls

        def _answer(self, answer: HttpAnswer) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(answer.body)

        def _misbehave(self, fault: HttpFault) -> None:
            if fault is HttpFault.GARBAGE:
                self.wfile.write(b"\x00\xff\xfe no HTTP at all\r\n\r\n" * 8)
            elif fault is HttpFault.SILENCE:
                closing.wait()
            elif fault is HttpFault.DRIP:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                while not closing.wait(0.02):
                    self.wfile.write(b"a")
            else:
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: Any) -> None:
            """Say nothing: what a test wants to know is in `requests`."""

    return Handler


def sample_alert(action: AlertAction = AlertAction.TRIGGER, **changes: Any) -> Alert:
    """Return an alert as a service sends one, with `changes` to its fields."""
    alert = Alert(
        action=action,
        kind="connection_lost",
        severity=Severity.INFO if action is AlertAction.RESOLVE else Severity.CRITICAL,
        title="trading-api: Database unavailable",
        message="the server closed the connection",
        error_code=ErrorCode.DB_UNAVAILABLE,
        incident_id="4f1d9c0a77e0b3d2",
        dedup_key="failstop/trading-api/4f1d9c0a77e0b3d2",
        service="trading-api",
        host="host-1",
        occurrences=3,
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        details={"epoch": "7", "action": "look at the server's log"},
    )
    return replace(alert, **changes)


class SinkConformance:
    """What the dispatcher relies on: subclass it in a test module, and pytest runs the promises.

    ::

        class TestMySink(SinkConformance):
            secrets = ("the-token",)

            def working_sink(self): return MySink("http://127.0.0.1:8025", token="the-token")
            def refused_sink(self): ...   # its receiver refuses
            def silent_sink(self): ...    # its receiver never answers; None if it has none

    Attributes:
        secrets: texts that the sink was given and must never show.
        bound: seconds within which every `send` ends, whatever its receiver does.
    """

    secrets: ClassVar[tuple[str, ...]] = ()
    bound: ClassVar[float] = 30.0

    def working_sink(self) -> AlertSink:
        """Return a sink whose receiver takes every alert."""
        raise NotImplementedError("return a sink whose receiver takes every alert")

    def refused_sink(self) -> AlertSink:
        """Return a sink whose receiver refuses every alert, or cannot be reached."""
        raise NotImplementedError("return a sink whose receiver refuses every alert")

    def silent_sink(self) -> AlertSink | None:
        """Return a sink whose receiver never answers; None where nothing is waited for."""
        raise NotImplementedError("return a sink whose receiver never answers, or None")

    def test_has_a_name_that_stays(self) -> None:
        sink = self.working_sink()
        assert isinstance(sink.name, str), "a sink's name is a text"
        assert sink.name.strip(), "a sink's name is not empty"
        assert sink.name == self.working_sink().name, "a sink's name is the same after a restart"

    def test_takes_every_action(self) -> None:
        sink = self.working_sink()
        for action in AlertAction:
            self._send(sink, sample_alert(action))

    def test_takes_the_same_alert_twice(self) -> None:
        sink = self.working_sink()
        for _ in range(2):
            self._send(sink, sample_alert())

    def test_takes_long_strange_and_empty_texts(self) -> None:
        sink = self.working_sink()
        strange = "".join(map(chr, range(0x2FF))) + "🔥‮<!channel>&%s{0}\ud800\r\nX: y"
        for text in ("x" * 100_000, "🔥" * 20_000, strange, ""):
            self._send(
                sink, sample_alert(title=text, message=text, details={text: text, "k": text})
            )

    def test_takes_many_details(self) -> None:
        details = {f"detail-{number}": "x" * 10_000 for number in range(100)}
        self._send(self.working_sink(), sample_alert(details=details))

    def test_serves_several_threads(self) -> None:
        sink = self.working_sink()
        with ThreadPoolExecutor(4) as pool:
            for sent in [pool.submit(self._send, sink, sample_alert()) for _ in range(4)]:
                sent.result()

    def test_raises_where_the_alert_did_not_arrive(self) -> None:
        error = self._failure(self.refused_sink())
        assert error is not None, "send returned although the receiver refused the alert"

    def test_ends_in_bounded_time_where_nobody_answers(self) -> None:
        sink = self.silent_sink()
        if sink is not None:
            assert self._failure(sink) is not None, "send returned although nobody answered"

    def test_shows_no_secret(self) -> None:
        sink = self.refused_sink()
        shown = [repr(self.working_sink()), repr(sink), str(sink), sink.name]
        error: BaseException | None = self._failure(sink)
        while error is not None:
            shown += [repr(error), str(error)]
            error = error.__cause__ or error.__context__
        for secret in self.secrets:
            assert not any(secret in text for text in shown), "a secret is in a repr or an error"

    def _send(self, sink: AlertSink, alert: Alert) -> None:
        assert self._call(sink, alert) is None, "send returns None"

    def _failure(self, sink: AlertSink) -> Exception | None:
        try:
            self._call(sink, sample_alert())
        except AssertionError:
            raise
        except Exception as error:  # noqa: BLE001 - a sink may raise anything; that it does counts
            return error
        return None

    def _call(self, sink: AlertSink, alert: Alert) -> object:
        """Send on a thread of its own, as the dispatcher does, and wait no longer than bound."""
        outcome: list[object] = []
        thread = threading.Thread(target=_attempt, args=(sink, alert, outcome), daemon=True)
        thread.start()
        thread.join(self.bound)
        assert not thread.is_alive(), f"send did not end within {self.bound:g} seconds"
        (result,) = outcome
        if isinstance(result, Exception):
            raise result
        return result


def _attempt(sink: AlertSink, alert: Alert, outcome: list[object]) -> None:
    send: Callable[[Alert], object] = sink.send
    try:
        outcome.append(send(alert))
    except Exception as error:  # noqa: BLE001 - handed to the thread that waits
        outcome.append(error)
