"""What the sinks that send over a network share: checked settings, bounded calls, plain refusals.

A vendor's client is foreign code: it may hang, write the URL it was given to its log, or put it
into the error it raises. So each call runs on a thread of its own, with the vendors' loggers shut
for that thread, and what it raises is told by class name only. Never here: a vendor's words.
"""

from __future__ import annotations

import importlib
import ipaddress
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from failstop._redaction import redact
from failstop.alerts._alert import Alert, DeliveryError
from failstop.diagnosis import runbook
from failstop.errors import ConfigurationError

__all__ = [
    "TIMEOUT",
    "Reply",
    "Wire",
    "as_json",
    "checked_base",
    "checked_url",
    "facts",
    "is_loopback",
    "loaded",
    "quiet",
    "readable",
    "shorten",
    "timestamp",
]

TIMEOUT = 10.0
"""Seconds that one delivery may take."""
LONGEST_WAIT = 3600.0
"""Seconds that a Retry-After is believed: a page must not wait for next year."""
MOST_ABANDONED = 4
"""Calls of one sink that may hang past their timeout before it refuses to make another."""
TRY_AGAIN = frozenset({408, 425, 429})
"""Answers of the 4xx that do not mean that the same alert is refused for ever."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver said: its HTTP status and when it wants to be asked again."""

    status: int
    retry_after: str | None = None
    is_understood: bool = True
    """False where the status is good and the body is not what the vendor documents."""


class Wire:
    """Make the calls of one sink: each ends in `timeout` seconds and says why it failed."""

    def __init__(self, name: str, timeout: float) -> None:
        self._name = name
        self._timeout = timeout
        self._abandoned: set[threading.Thread] = set()

    def deliver(self, call: Callable[[], Reply]) -> None:
        """Run `call` and return where it brought a 2xx.

        Raises:
            DeliveryError: it raised, answered otherwise, or did not end in time.
        """
        self._require_free()
        done: Future[Reply | str] = Future()
        thread = threading.Thread(
            target=_settle, args=(call, done), name=f"failstop-send-{self._name}", daemon=True
        )
        thread.start()
        try:
            reply = done.result(self._timeout)
        except TimeoutError:
            reply = self._abandon(thread)
        if isinstance(reply, str):
            raise DeliveryError(f"sink {self._name!r}: {reply}")
        self._judge(reply)

    def _require_free(self) -> None:
        self._abandoned -= {each for each in tuple(self._abandoned) if not each.is_alive()}
        if len(self._abandoned) >= MOST_ABANDONED:
            raise DeliveryError(f"sink {self._name!r}: too many earlier deliveries still hang")

    def _abandon(self, thread: threading.Thread) -> str:
        self._abandoned.add(thread)
        return f"no answer within {self._timeout:g} seconds"

    def _judge(self, reply: Reply) -> None:
        status = reply.status
        if 200 <= status < 300 and reply.is_understood:
            return
        said = f"answered {status}"
        if 200 <= status < 300:
            said += ", but not what it documents; is something between?"
        elif 300 <= status < 400:
            said += ", a redirect, which is not followed; give the final address"
        raise DeliveryError(
            f"sink {self._name!r}: {said}",
            retry_after=_seconds(reply.retry_after),
            is_permanent=400 <= status < 500 and status not in TRY_AGAIN,
        )


def _settle(call: Callable[[], Reply], done: Future[Reply | str]) -> None:
    """Run `call` with the vendors' loggers shut; leave its reply, or the name of what it raised."""
    _is_quiet.set(True)
    try:
        done.set_result(call())
    except DeliveryError as refused:
        done.set_result(str(refused))
    except Exception as error:  # noqa: BLE001 - a vendor's client raises anything, with the URL
        done.set_result(f"not delivered ({_root_name(error)})")


def _root_name(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return type(error).__name__


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header, in seconds or as an HTTP date; None where it is neither."""
    if retry_after is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", retry_after):
        return min(float(retry_after), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT)


# --- silence -----------------------------------------------------------------------------------

_is_quiet: ContextVar[bool] = ContextVar("failstop_is_quiet", default=False)


class _Silence(logging.Filter):
    """Drop what a vendor's client says while it works for a sink: it may hold the sink's secret."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_quiet.get()


_SILENCE = _Silence()


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Shut these loggers for the sinks' calls from now on, and for the block too."""
    for name in loggers:
        logging.getLogger(name).addFilter(_SILENCE)
    token = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(token)


# --- settings ----------------------------------------------------------------------------------


def loaded(module: str, sink: str, extra: str) -> Any:
    """Import a vendor's client.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise ConfigurationError(
            f"{sink} needs {module}; install it with: pip install 'failstop[{extra}]'"
        ) from missing


def checked_url(url: object, setting: str = "url") -> str:
    """Return `url`, which is never shown in an error: it may hold a secret.

    Raises:
        ConfigurationError: it is no absolute https URL, nor an http one of this machine.
    """
    if not isinstance(url, str) or re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise ConfigurationError(f"{setting} must be a URL without spaces and backslashes")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{setting} is no valid URL") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ConfigurationError(f"{setting} must be a whole URL that starts with https://")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{setting} must be https: plain http is accepted for this machine's loopback only"
        )
    return url


def checked_base(url: object) -> str:
    """Return `url` without a closing slash, for a path to be put behind it.

    Raises:
        ConfigurationError: as in `checked_url`, or it has a query or a fragment.
    """
    base = checked_url(url)
    if re.search(r"[?#]", base):
        raise ConfigurationError("url must end with its path: no query and no fragment")
    return base.rstrip("/")


def is_loopback(host: str | None) -> bool:
    """True for localhost, 127.0.0.0/8 and ::1."""
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# --- texts -------------------------------------------------------------------------------------


def readable(alert: Alert) -> Alert:
    """Return `alert` with every text that may be foreign made safe for output."""
    return replace(
        alert,
        kind=redact(alert.kind),
        title=redact(alert.title),
        message=redact(alert.message),
        service=redact(alert.service),
        host=redact(alert.host),
        details=_readable(alert.details),
    )


def _readable(details: Mapping[str, str]) -> dict[str, str]:
    """Redact each pair as a whole too: it is the name that tells a password from a word."""
    safe: dict[str, str] = {}
    for name, value in details.items():
        text = str(value)
        is_secret = redact(f"{name}: {text}").endswith("=***")
        safe[redact(str(name))] = "***" if is_secret else redact(text)
    return safe


def facts(alert: Alert) -> dict[str, str]:
    """Return what a person wants to see besides title and message, in order."""
    return {
        "service": alert.service,
        "host": alert.host,
        "code": alert.error_code.value,
        "incident": alert.incident_id,
        "occurrences": str(alert.occurrences),
        "at": timestamp(alert.occurred_at),
        "runbook": runbook(alert.kind),
        **alert.details,
    }


def shorten(text: str, limit: int) -> str:
    """Return `text` in at most `limit` UTF-16 units, the strictest way a vendor may count."""
    encoded = text.encode("utf-16-le", "replace")
    if len(encoded) <= 2 * limit:
        return text
    return encoded[: 2 * (limit - 1)].decode("utf-16-le", "ignore") + "…"


def timestamp(moment: datetime) -> str:
    """Return `moment` as RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(document: object) -> bytes:
    """Return `document` as JSON; equal documents give equal bytes."""
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode()
