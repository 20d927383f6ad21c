"""The receipt: a row in the user's own transaction that exists if and only if that committed.

Lives here: the keys, the row's statements and what a stored one answers. When it is written and
asked for is the guard's affair.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any, NamedTuple

from sqlalchemy import CursorResult, Row, text
from sqlalchemy.sql.elements import TextClause

from failstop.errors import ConfigurationError, IdempotencyConflictError, ReceiptExpiredError

__all__ = [
    "NONE",
    "READ",
    "Receipt",
    "as_json",
    "insert_literal",
    "insert_parameters",
    "receipt_for",
    "replay",
    "require_keyed",
    "require_stored",
    "select_statement",
    "store_statement",
    "table_of",
]

LONGEST_KEY = 255
"""Characters of a key; the index keeps it whole."""

COLUMNS = "(key, fingerprint, service, is_automatic)"


class Receipt(NamedTuple):
    """What is written for one transaction; `is_automatic` where the user gave no key."""

    key: str
    fingerprint: str | None = None
    is_automatic: bool = False

    @classmethod
    def automatic(cls) -> Receipt:
        """Return a receipt under a key of its own, unique and in the order of time."""
        return cls(f"auto-{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(8)}", None, True)


NONE = Receipt("")
"""No receipt: the caller has said nothing."""

READ = Receipt("", is_automatic=True)
"""No receipt: the caller only reads."""


def receipt_for(key: object, fingerprint: object = None) -> Receipt:
    """Return the receipt that a caller asks for; `NONE` where it gives no key.

    Raises:
        ConfigurationError: the key or the fingerprint is no text that can be one.
    """
    if key is None:
        return NONE
    if fingerprint is not None and not isinstance(fingerprint, str):
        raise ConfigurationError("a fingerprint must be a text, such as a hash of the request")
    return Receipt(_require_text("key", key), _optional("fingerprint", fingerprint))


def _optional(name: str, value: str | None) -> str | None:
    return None if value is None else _require_text(name, value)


def _require_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ConfigurationError(f"a {name} must be a printable text that is not empty")
    if len(value) > LONGEST_KEY:
        raise ConfigurationError(f"a {name} must have at most {LONGEST_KEY} characters")
    return value


def require_keyed(key: object, *, has_receipts: bool, name: str) -> None:
    """Refuse a key where no receipts are written.

    Raises:
        ConfigurationError: there would be nothing to find the key by.
    """
    if key is not None and not has_receipts:
        raise ConfigurationError(
            f"database {name!r} has receipts=False, so a key has no effect; turn receipts on"
        )


def table_of(dialect_name: str) -> str:
    """Return the name of the table of receipts, as the dialect writes it."""
    return "failstop_receipt" if dialect_name == "sqlite" else "failstop.receipt"


def insert_literal(receipt: Receipt, service: str) -> str:
    """Return PostgreSQL's statement that writes a receipt, in ASCII and without parameters."""
    fingerprint = "NULL" if receipt.fingerprint is None else _literal(receipt.fingerprint)
    values = f"{_literal(receipt.key)}, {fingerprint}, {_literal(service)}, {receipt.is_automatic}"
    return f"INSERT INTO failstop.receipt {COLUMNS} VALUES ({values})"  # noqa: S608 - quoted above


def _literal(value: str) -> str:
    """Quote a text; PostgreSQL manual, 4.1.2.2, for what is not plain ASCII.

    The escapes read the same whatever `standard_conforming_strings` and the encoding are.
    """
    quoted = value.replace("'", "''")
    if value.isascii() and "\\" not in value:
        return f"'{quoted}'"
    escaped = "".join(_escape(character) for character in quoted)
    return f"E'{escaped}'"


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isascii():
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def insert_parameters(receipt: Receipt, service: str) -> tuple[str, tuple[object, ...]]:
    """Return SQLite's statement that writes a receipt, with its parameters."""
    statement = f"INSERT INTO failstop_receipt {COLUMNS} VALUES (?, ?, ?, ?)"  # noqa: S608
    return statement, (receipt.key, receipt.fingerprint, service, receipt.is_automatic)


# The result that a receipt keeps


def store_statement(dialect_name: str) -> TextClause:
    """Return the statement that stores a result with the receipt of the open transaction."""
    return text(f"UPDATE {table_of(dialect_name)} SET result = :result WHERE key = :key")  # noqa: S608


def require_stored(done: CursorResult[Any]) -> None:
    """Raise where the receipt was not there any more, so that nothing is committed.

    Raises:
        ConfigurationError: the work had ended the transaction itself.
    """
    if done.rowcount != 1:
        raise ConfigurationError(
            "the work under run_once() ended its transaction; it must neither commit nor roll back"
        )


def select_statement(dialect_name: str) -> TextClause:
    """Return the statement that reads a receipt."""
    table = table_of(dialect_name)
    return text(f"SELECT fingerprint, result, is_pruned FROM {table} WHERE key = :key")  # noqa: S608


def as_json(result: object) -> str:
    """Return a result as JSON (RFC 8259) in ASCII.

    Raises:
        TypeError: it cannot be one.
    """
    try:
        return json.dumps(result, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise TypeError(f"the result cannot be stored as JSON: {error}") from error


def replay(row: Row[Any] | None, key: str, fingerprint: str | None) -> Any:
    """Return the stored result.

    Raises:
        IdempotencyConflictError: the key was used for another request, or not by `run_once()`.
        ReceiptExpiredError: the work was done, but what it returned is kept no more.
    """
    if row is None or row.is_pruned:
        raise ReceiptExpiredError(
            f"the work under the key {key!r} was committed once; its result is not kept any more",
            key,
        )
    if row.result is None:
        raise IdempotencyConflictError(
            f"the key {key!r} was used by a transaction that stored no result", key
        )
    if row.fingerprint != fingerprint:
        raise IdempotencyConflictError(f"the key {key!r} was used for another request", key)
    return json.loads(row.result)
