"""What a guarded database settles: the URL, the pool, the server's timeouts."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from failstop.errors import ConfigurationError, DatabaseUnavailableError, Outcome

__all__ = ["engine_arguments", "require_url", "session_settings", "statement_timeout"]


def require_url(url: str | URL | None, *, driver: str) -> URL:
    """Return `url` with `driver` for PostgreSQL where it names none.

    Raises:
        DatabaseUnavailableError: there is no URL; there is no default for one.
        ConfigurationError: it cannot be read. The text never shows it.
    """
    if url is None or (isinstance(url, str) and not url.strip()):
        raise DatabaseUnavailableError(
            "no database URL: set DATABASE_URL to the URL of the database",
            outcome=Outcome.NOT_STARTED,
            kind="no_url",
        )
    if not isinstance(url, str | URL):
        raise ConfigurationError(f"the database URL must be a text, not {type(url).__name__}")
    try:
        made = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "the database URL cannot be read; write postgresql://user:password@host:port/database"
        ) from None
    if made.drivername in ("postgres", "postgresql"):
        return made.set(drivername=f"postgresql+{driver}")
    return made


def engine_arguments(url: URL, deadline: float) -> dict[str, Any]:
    """Return the arguments of `create_engine()` that suit a guarded engine."""
    arguments: dict[str, Any] = {"pool_pre_ping": True, "hide_parameters": True}
    if url.get_backend_name() == "postgresql":
        arguments["pool_timeout"] = deadline
    return arguments


def session_settings(dialect_name: str, deadline: float) -> dict[str, str]:
    """Return the server's own timeouts (milliseconds), with which it answers before we cut.

    A transaction whose client has vanished is ended later than any live one could last.
    """
    if dialect_name != "postgresql":
        return {}
    milliseconds = statement_timeout(deadline)
    return {
        "statement_timeout": str(milliseconds),
        "lock_timeout": str(milliseconds),
        "idle_in_transaction_session_timeout": str(5 * milliseconds + 30_000),
    }


def statement_timeout(seconds: float) -> int:
    """Return the milliseconds after which the server ends a statement that has `seconds`.

    A little less, so that its answer (57014) and the rollback still come in time.
    """
    return max(1, math.floor(950 * seconds))
