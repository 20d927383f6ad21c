"""The evidence: what an exception and its causes tell, read without trusting them.

Never here: what it means, or an import of a driver; drivers are known by package and class name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import exc as sqlalchemy_errors

from failstop.diagnosis._table import SQLSTATE
from failstop.errors import CriticalError


@dataclass(frozen=True, slots=True)
class Word:
    """What the server itself said: its code, and where in its source it said it."""

    sqlstate: str
    severity: str | None
    source_file: str | None
    source_function: str | None
    message: str | None

    @classmethod
    def of(cls, error: object) -> Word | None:
        """Read the server's word; None where the code is the client's own invention."""
        sqlstate = text_of(error, "sqlstate") or text_of(error, "pgcode")
        if sqlstate is None or not SQLSTATE.fullmatch(sqlstate):
            return None
        diag = look(error, "diag")
        severity = (
            text_of(diag, "severity_nonlocalized")
            or text_of(error, "severity_en")
            or text_of(diag, "severity")
            or text_of(error, "severity")
        )
        if severity is None and "asyncpg" in class_names(error):
            return None
        return cls(
            sqlstate,
            severity,
            text_of(diag, "source_file") or text_of(error, "server_source_filename"),
            text_of(diag, "source_function") or text_of(error, "server_source_function"),
            text_of(diag, "message_primary") or text_of(error, "message"),
        )


@dataclass(frozen=True, slots=True)
class Family:
    """An exception, what the driver raised underneath it, and the facts that they give."""

    error: object
    driver: object
    names: frozenset[str]
    word: Word | None
    is_invalidated: bool | None

    @classmethod
    def of(cls, error: object, invalidated: bool | None) -> Family:
        driver = error
        if is_a(error, *WRAPPERS):
            for name in ("orig", "driver_exception"):
                inner = look(error, name)
                driver = driver if inner is None else inner
            told = look(error, "connection_invalidated")
            if type(told) is bool:
                invalidated = bool(invalidated) or told
        word = Word.of(driver) or _last_word(driver)
        return cls(error, driver, class_names(driver), word, invalidated)

    @property
    def is_fatal(self) -> bool:
        """True where the server ended the session; an unreadable severity counts as that."""
        if self.word is None or self.word.severity is None:
            return self.is_invalidated is True
        return self.word.severity != "ERROR"


def _last_word(driver: object) -> Word | None:
    """Return what the server said before it hung up; asyncpg hides it in the cause."""
    if "asyncpg" not in class_names(driver):
        return None
    for _ in range(LONGEST_CHAIN):
        driver = look(driver, "__cause__")
        word = Word.of(driver)
        if driver is None or (word is not None and word.severity in ("FATAL", "PANIC")):
            return word
    return None


# Reading without trust


def look(thing: object, name: str) -> object:
    """Return an attribute, or None: exceptions of drivers and users may raise when looked at."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - what cannot be read is no evidence, and unknown is critical
        return None


def text_of(thing: object, name: str) -> str | None:
    value = look(thing, name)
    return value if type(value) is str else None


def first_argument(error: object) -> object:
    args = look(error, "args")
    return args[0] if type(args) is tuple and args else None


def first_text(error: object) -> str | None:
    """Return the message that the exception was made with; it never goes into a diagnosis."""
    text = first_argument(error)
    return text if type(text) is str else None


def is_a(thing: object, *classes: type) -> bool:
    """Do what isinstance does, without asking the object, which may lie or raise."""
    return issubclass(type(thing), classes)


def class_names(thing: object) -> frozenset[str]:
    """Return "package" and "package.Class" for the class of `thing` and all its bases."""
    names: set[str] = set()
    bases = look(type(thing), "__mro__")
    for cls in bases if type(bases) is tuple else ():
        package = (text_of(cls, "__module__") or "").partition(".")[0]
        names |= {package, f"{package}.{text_of(cls, '__name__')}"}
    return frozenset(names)


# Which exceptions speak


def leaves(exc: object) -> list[object]:
    """Return the exceptions to judge: each member of a group, or what it was made from.

    An explicit cause that speaks of a database stands for a plain exception that wraps it. What
    was being handled (`__context__`) can only make the meaning graver, never milder.
    """
    found: list[object] = []
    for member in _members(exc):
        causes = list(_speaking(member, ("__cause__",)))
        is_plain = is_a(member, Exception) and not is_a(member, OSError, EOFError)
        found += causes if causes and is_plain else [member, *causes]
        found += _speaking(member, ("__cause__", "__context__"))
    return found


def _members(exc: object) -> Iterator[object]:
    """Yield the exceptions in a group of groups, or the exception itself."""
    pending, seen = [exc], 0
    while pending:
        error = pending.pop()
        seen += 1
        if seen > LONGEST_CHAIN:
            yield _EndlessError()
            return
        members = look(error, "exceptions") if is_a(error, BaseExceptionGroup) else None
        if type(members) is tuple and members:
            pending.extend(members)
        else:
            yield error


def _speaking(error: object, links: tuple[str, ...]) -> Iterator[object]:
    """Yield the first exceptions that speak of a database, along `links` and in groups."""
    pending: list[object] = [error]
    seen: dict[int, object] = {}
    while pending:
        error = pending.pop()
        if id(error) in seen or not is_a(error, BaseException):
            continue
        seen[id(error)] = error
        if len(seen) > LONGEST_CHAIN:
            yield _EndlessError()
            return
        if _speaks(error):
            yield error
            continue
        members = look(error, "exceptions") if is_a(error, BaseExceptionGroup) else ()
        pending.extend(members if type(members) is tuple else ())
        pending.extend(look(error, link) for link in links)


class _EndlessError(Exception):
    """Stands for a chain too long to follow; it speaks of nothing, so it is critical."""


def _speaks(error: object) -> bool:
    """Say whether an exception tells by itself that a database call failed."""
    if is_a(error, sqlalchemy_errors.SQLAlchemyError):
        return is_a(error, *_SPEAKING_SQLALCHEMY)
    if is_a(error, CriticalError, sqlalchemy_errors.EmulatedDBAPIException):
        return True
    return bool(class_names(error) & DRIVERS) or Word.of(error) is not None


_SPEAKING_SQLALCHEMY: Final = (
    sqlalchemy_errors.DBAPIError,
    sqlalchemy_errors.TimeoutError,
    sqlalchemy_errors.DisconnectionError,
)
WRAPPERS: Final = (sqlalchemy_errors.DBAPIError, sqlalchemy_errors.EmulatedDBAPIException)
MYSQL_DRIVERS: Final = frozenset({"pymysql", "MySQLdb", "aiomysql", "asyncmy", "mariadb", "mysql"})
SQLITE_DRIVERS: Final = frozenset({"sqlite3", "aiosqlite"})
DRIVERS: Final = MYSQL_DRIVERS | SQLITE_DRIVERS | {"psycopg", "psycopg2", "psycopg_pool", "asyncpg"}
LONGEST_CHAIN: Final = 1000
