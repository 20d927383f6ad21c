"""Every shipped sink passes the suite for sinks, and a sink that breaks a promise does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from failstop.alerts import Alert, AlertSink, LoggingSink
from failstop.testing import (
    CapturingSink,
    HttpAnswer,
    HttpFault,
    HttpReceiver,
    SinkConformance,
)

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class TestShippedSinks(SinkConformance):
    """The five that send over a network, each to a receiver that checks the vendor's schema."""

    @pytest.fixture(autouse=True)
    def _receivers(
        self, make_sink: Callable[..., AlertSink], receiver: HttpReceiver, secrets: tuple[str, ...]
    ) -> None:
        self.make_sink, self.receiver = make_sink, receiver
        self.as_documented = receiver.respond
        type(self).secrets = secrets

    def working_sink(self) -> AlertSink:
        self.receiver.respond = self.as_documented
        return self.make_sink()

    def refused_sink(self) -> AlertSink:
        self.receiver.respond = lambda _: HttpAnswer(403)
        return self.make_sink()

    def silent_sink(self) -> AlertSink:
        self.receiver.respond = lambda _: HttpFault.SILENCE
        return self.make_sink(timeout=0.5)


class _Refusing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the disk is full")


class TestLoggingSink(SinkConformance):
    def working_sink(self) -> AlertSink:
        return LoggingSink("tests.alerts.conformance")

    def refused_sink(self) -> AlertSink:
        logger = logging.getLogger("tests.alerts.refusing")
        logger.handlers = [_Refusing()]
        return LoggingSink(logger)

    def silent_sink(self) -> None:
        return None


class _Broken:
    """A sink that keeps every promise but the one that a test names."""

    name: Any = "broken"

    def send(self, alert: Alert) -> None:
        raise RuntimeError("refused")


class _Taking(_Broken):
    def send(self, alert: Alert) -> None:
        return None


def _suite(working: AlertSink, refused: AlertSink, silent: AlertSink | None) -> SinkConformance:
    class Suite(SinkConformance):
        bound = 0.5
        secrets = ("s3cr3t",)

        def working_sink(self) -> AlertSink:
            return working

        def refused_sink(self) -> AlertSink:
            return refused

        def silent_sink(self) -> AlertSink | None:
            return silent

    return Suite()


PROMISES = [name for name in dir(SinkConformance) if name.startswith("test_")]


@pytest.mark.parametrize("promise", PROMISES)
def test_a_good_sink_passes(promise: str) -> None:
    getattr(_suite(_Taking(), _Broken(), _Broken()), promise)()


class _Nameless(_Taking):
    name = " "


class _Swallowing(_Taking):
    pass


class _Answering(_Taking):
    def send(self, alert: Alert) -> None:
        return "queued"  # type: ignore[return-value] # the promise that it breaks


class _OnlyTriggers(_Taking):
    def send(self, alert: Alert) -> None:
        if alert.action != "trigger":
            raise KeyError(alert.action)


class _ShortOnly(_Taking):
    def send(self, alert: Alert) -> None:
        if len(alert.message) > 1000:
            raise ValueError("too long")


class _FewDetails(_Taking):
    def send(self, alert: Alert) -> None:
        if len(alert.details) > 10:
            raise ValueError("too many")


class _OfOneThread(_Taking):
    def __init__(self) -> None:
        self._owner: int | None = None

    def send(self, alert: Alert) -> None:
        self._owner = self._owner or threading.get_native_id()
        if self._owner != threading.get_native_id():
            raise RuntimeError("made in another thread")


class _Once(_Taking):
    def __init__(self) -> None:
        self._seen: list[Alert] = []

    def send(self, alert: Alert) -> None:
        if alert in self._seen:
            raise ValueError("seen before")
        self._seen.append(alert)


class _Telling(_Broken):
    def send(self, alert: Alert) -> None:
        raise RuntimeError("refused") from RuntimeError("POST https://h/s3cr3t")


class _Showing(_Taking):
    def __repr__(self) -> str:
        return "Showing(token='s3cr3t')"


class _Hanging(_Broken):
    def __init__(self) -> None:
        self.ends = threading.Event()

    def send(self, alert: Alert) -> None:
        self.ends.wait()


@pytest.mark.parametrize(
    ("promise", "working", "refused"),
    [
        ("test_has_a_name_that_stays", _Nameless(), _Broken()),
        ("test_takes_every_action", _OnlyTriggers(), _Broken()),
        ("test_takes_every_action", _Answering(), _Broken()),
        ("test_takes_the_same_alert_twice", _Once(), _Broken()),
        ("test_takes_long_strange_and_empty_texts", _ShortOnly(), _Broken()),
        ("test_takes_many_details", _FewDetails(), _Broken()),
        ("test_serves_several_threads", _OfOneThread(), _Broken()),
        ("test_raises_where_the_alert_did_not_arrive", _Taking(), _Swallowing()),
        ("test_shows_no_secret", _Showing(), _Broken()),
        ("test_shows_no_secret", _Taking(), _Telling()),
    ],
)
def test_a_sink_that_breaks_a_promise_fails(
    promise: str, working: AlertSink, refused: AlertSink
) -> None:
    with pytest.raises((AssertionError, RuntimeError, ValueError, KeyError)):
        getattr(_suite(working, refused, None), promise)()


def test_a_sink_that_hangs_fails() -> None:
    hanging = _Hanging()
    try:
        with pytest.raises(AssertionError, match="did not end within"):
            _suite(_Taking(), _Broken(), hanging).test_ends_in_bounded_time_where_nobody_answers()
    finally:
        hanging.ends.set()


def test_the_capturing_sink_takes_what_a_sink_must() -> None:
    suite = _suite(CapturingSink(), _Broken(), None)
    for promise in PROMISES:
        getattr(suite, promise)()
