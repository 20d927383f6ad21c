"""The database that a command works on. Never here: what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from failstop import FailSafe
from failstop.database import Database
from failstop.errors import ConfigurationError

if TYPE_CHECKING:
    from failstop.database import AsyncDatabase

__all__ = ["connected", "database_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


def database_options(command: Command) -> Command:
    """Give a command the options `--url` and `--deadline`."""
    url = click.option(
        "--url", envvar="DATABASE_URL", help="The database's URL; else DATABASE_URL."
    )
    deadline = click.option(
        "--deadline", type=float, default=5.0, show_default=True, help="Of a call, in seconds."
    )
    return url(deadline(command))


@contextmanager
def connected(
    url: str | None,
    deadline: float,
    *,
    receipts: bool = True,
    fence: bool = True,
    listen_url: str | None = None,
    name: str = "database",
) -> Iterator[Database | AsyncDatabase]:
    """Give the database as a service would have it, which is never started.

    Raises:
        ConfigurationError: its driver is not known, or a setting is wrong.
        click.UsageError: there is no URL.
    """
    if not url:
        raise click.UsageError("no database URL: give --url or set DATABASE_URL")
    failsafe = FailSafe("failstop-command")
    try:
        settings = {"deadline": deadline, "receipts": receipts, "fence": fence}
        yield _connect(url, failsafe, name=name, listen_url=listen_url, **settings)
    except NoSuchModuleError:
        raise ConfigurationError(
            "the database URL names a kind or driver that SQLAlchemy does not know; "
            "begin it with postgresql+psycopg"
        ) from None
    finally:
        failsafe.close()


def _connect(url: str, failsafe: FailSafe, **settings: Any) -> Database | AsyncDatabase:
    if not _is_async(url):
        return Database.connect(url, failsafe, **settings)
    from failstop.database import AsyncDatabase

    return AsyncDatabase.connect(url, failsafe, **settings)


def _is_async(url: str) -> bool:
    """Say whether the URL's driver is async; one that cannot be read is for `connect()` to tell."""
    try:
        return make_url(url).get_dialect().is_async
    except (ArgumentError, ValueError):
        return False
