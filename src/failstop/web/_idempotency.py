"""The Idempotency-Key header: a request that is sent again is answered as it was the first time.

Lives here: what is a key, whose it is, what the request under it was, the work of one request, and
the answers that tell what a key means. Never here: a framework, or how a result becomes an answer.

draft-ietf-httpapi-idempotency-key-header, and RFC 9457 for the answers.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from failstop.errors import (
    ConfigurationError,
    IdempotencyConflictError,
    KeyInFlightError,
    ReceiptExpiredError,
)
from failstop.web._answer import Answer, problem_answer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from failstop.database import AsyncDatabase, Database, IsolationLevel

__all__ = [
    "ANYBODY",
    "IDEMPOTENCY_KEY",
    "KEY_ERRORS",
    "REPLAYED",
    "AsyncOnce",
    "KeyRequiredError",
    "Once",
    "fingerprint_of",
    "is_async_database",
    "key_answer",
    "read_key",
    "scoped_key",
]

T = TypeVar("T")

IDEMPOTENCY_KEY = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

LONGEST_KEY = 128
LONGEST_PATH = 77
LONGEST_CALLER = 40
"""Together, with a method of seven letters, they are the 255 characters of a receipt's key."""

QUOTED = re.compile(r'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')
BARE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")
"""Visible ASCII; bare without the quote, comma, semicolon and backslash of a structured field."""

UNRESERVED = "/:@!$&'()*+,;="


class KeyRequiredError(ValueError):
    """The request has no `Idempotency-Key`, or one that is none; nothing was done."""


class Problem(NamedTuple):
    """What a client is told of a key: the problem's name, the answer's status, two sentences."""

    name: str
    status: int
    title: str
    detail: str


PROBLEMS: dict[type[Exception], Problem] = {
    KeyRequiredError: Problem(
        "key-required",
        400,
        "This request needs an Idempotency-Key",
        'Send one that is unique to the request, such as a UUID: Idempotency-Key: "8e03978e-…"',
    ),
    KeyInFlightError: Problem(
        "key-in-flight",
        409,
        "The first request under this Idempotency-Key is still under way",
        "Send it again later, under the same key.",
    ),
    ReceiptExpiredError: Problem(
        "key-expired",
        410,
        "The answer under this Idempotency-Key is not kept any more",
        "The request was carried out once. Do not send it under another key.",
    ),
    IdempotencyConflictError: Problem(
        "key-conflict",
        422,
        "This Idempotency-Key was used for another request",
        "Nothing was done. Send each request under a key of its own.",
    ),
}
KEY_ERRORS = tuple(PROBLEMS)
"""The errors that `key_answer()` answers."""

SOON = {"Retry-After": "1"}


def key_answer(error: Exception) -> Answer:
    """Return what one of `KEY_ERRORS` means over HTTP: 400, 409, 410 or 422; never the key."""
    problem = next(PROBLEMS[kind] for kind in KEY_ERRORS if isinstance(error, kind))
    body = {
        "type": f"https://failstop.dev/problems/{problem.name}",
        "title": problem.title,
        "status": problem.status,
        "detail": str(error) if isinstance(error, KeyRequiredError) else problem.detail,
    }
    return problem_answer(problem.status, body, SOON if problem.status == 409 else {})


# The key


def read_key(header: str | None) -> str:
    """Return the key in an `Idempotency-Key` header: a text in quotes, which may be left out.

    Raises:
        KeyRequiredError: there is none, or it is none.
    """
    problem = PROBLEMS[KeyRequiredError]
    if header is None or not header.strip():
        raise KeyRequiredError(problem.detail)
    value = header.strip()
    if quoted := QUOTED.fullmatch(value):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif BARE.fullmatch(value):
        key = value
    else:
        raise KeyRequiredError("An Idempotency-Key is one text of visible ASCII, without spaces.")
    if len(key) > LONGEST_KEY:
        raise KeyRequiredError(f"An Idempotency-Key has at most {LONGEST_KEY} characters.")
    return key


ANYBODY = object()
"""The caller where none is asked for."""


def scoped_key(key: str, *, method: str, path: str, caller: object = ANYBODY) -> str:
    """Return the receipt's key: the client's key, on this path, by this caller.

    No part has a space, so that none can pose as another. What is too long, or whose text is not
    plain, stands there as its hash or percent-encoded.

    Raises:
        ConfigurationError: the caller is no text, or empty.
    """
    if caller is ANYBODY:
        return f"{method} {_part(path, LONGEST_PATH)} {key}"
    if not isinstance(caller, str) or not caller:
        raise ConfigurationError(
            "caller= must return a text that is not empty; refuse a request of nobody before"
        )
    return f"{method} {_part(path, LONGEST_PATH)} {_part(caller, LONGEST_CALLER)} {key}"


def _part(text: str, longest: int) -> str:
    part = quote(text, safe=UNRESERVED)  # quotes "#", so that no text can pose as a hash
    return part if len(part) <= longest else f"#{_hash(text.encode())[:32]}"


def fingerprint_of(method: str, path: str, query: str, body: bytes) -> str:
    """Return what tells requests apart that carry one key: the hash of all that they ask."""
    parts = (method.encode(), path.encode(), query.encode(), body)
    return _hash(b"".join(b"%d:%b" % (len(part), part) for part in parts))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# The work


def is_async_database(database: object) -> bool:
    """Say whether it is an AsyncDatabase.

    Raises:
        ConfigurationError: it is no database at all.
    """
    run_once = getattr(database, "run_once", None)
    if run_once is None:
        raise ConfigurationError(
            f"idempotent() takes a Database or an AsyncDatabase, not {type(database).__name__}"
        )
    return inspect.iscoroutinefunction(run_once)


class _Noted:
    """A work that notes that it ran: what returns without it is a replay."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work
        self.has_run = False

    def __call__(self, connection: Any) -> Any:
        self.has_run = True
        return self._work(connection)


class _Keyed:
    """What is the same of one request's work on both kinds of database."""

    def __init__(self, key: str, fingerprint: str, tell_replay: Callable[[], object]) -> None:
        self._key = key
        self._fingerprint = fingerprint
        self._tell_replay = tell_replay
        self._is_called = False
        self._is_replayed = False

    @property
    def is_replayed(self) -> bool:
        """Whether what was returned is from an earlier request."""
        return self._is_replayed

    def _begin(self, work: Callable[[Any], Any]) -> _Noted:
        if self._is_called:
            raise RuntimeError("once() was called before; a request has one key for one work")
        self._is_called = True
        return _Noted(work)

    def _end(self, noted: _Noted) -> None:
        if not noted.has_run:
            self._is_replayed = True
            self._tell_replay()


class Once(_Keyed):
    """The work of one request under its key, on a Database.

    Args:
        database: keeps the receipts.
        key: from `scoped_key()`.
        fingerprint: from `fingerprint_of()`.
        tell_replay: called where the answer is a replay.
    """

    def __init__(
        self, database: Database, key: str, fingerprint: str, tell_replay: Callable[[], object]
    ) -> None:
        super().__init__(key, fingerprint, tell_replay)
        self._database = database

    def __call__(
        self,
        work: Callable[[Connection], T],
        *,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> T:
        """Do `work` in a transaction, once for each key; return what it returned the first time.

        Whatever `work` raises rolls it back and stores nothing.

        Args:
            work: as in `Database.run_once()`.
            isolation_level: as in `Database.run_once()`.
            deadline: as in `Database.run_once()`; a twin waits so long for the first request.

        Raises:
            RuntimeError: it was called before for this request, which has one key for one work.
            TypeError: what `work` returned is no JSON; nothing is committed.
            IdempotencyConflictError: the key was used for another request.
            KeyInFlightError: the first request is still under way.
            ReceiptExpiredError: the work was done, but its result is kept no more.
            CriticalDatabaseError: the database failed; `outcome` says what became of the work.
        """
        noted = self._begin(work)
        result: T = self._database.run_once(
            self._key,
            noted,
            fingerprint=self._fingerprint,
            isolation_level=isolation_level,
            deadline=deadline,
        )
        self._end(noted)
        return result


class AsyncOnce(_Keyed):
    """The work of one request under its key, on an AsyncDatabase; else as `Once`."""

    def __init__(
        self, database: AsyncDatabase, key: str, fingerprint: str, tell_replay: Callable[[], object]
    ) -> None:
        super().__init__(key, fingerprint, tell_replay)
        self._database = database

    async def __call__(
        self,
        work: Callable[[AsyncConnection], Awaitable[T]],
        *,
        isolation_level: IsolationLevel | None = None,
        deadline: float | None = None,
    ) -> T:
        """Do `work` in a transaction, once for each key, as `Once` does."""
        noted = self._begin(work)
        result: T = await self._database.run_once(
            self._key,
            noted,
            fingerprint=self._fingerprint,
            isolation_level=isolation_level,
            deadline=deadline,
        )
        self._end(noted)
        return result
