"""The address of a listener: libpq's parameters for a connection that leads where the service's do.

Taken from a connection of the service's own, whatever driver made it, or from `listen_url` where
that is given. Never here: a connection, or anything that shows a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy.engine import URL, Connection

from failstop.database._settings import require_url
from failstop.errors import ConfigurationError

__all__ = ["Address"]

LIBPQ = ("psycopg", "psycopg_async")
NAMES = {"host": "host", "port": "port", "user": "user", "password": "password"}
"""What asyncpg calls as libpq does."""


class Address:
    """Where a listener connects.

    Args:
        name: the database's, for messages.
        listen_url: leads to the server itself, where the service's own connections do not.
        driver: the service's, by name.
        arguments: gives those of the service's last connect, None where a creator has its own.

    Raises:
        ConfigurationError: the URL cannot be read, or is not one of PostgreSQL.
    """

    def __init__(
        self,
        name: str,
        listen_url: str | URL | None,
        driver: str,
        arguments: Callable[[], Mapping[str, Any] | None],
    ) -> None:
        self._name = name
        self._driver = driver
        self._arguments = arguments
        self.is_given = listen_url is not None
        self._parameters = None if listen_url is None else _of_url(listen_url)
        self._is_hidden = False

    def learn(self, connection: Connection) -> None:
        """Take the parameters of one of the service's own connections."""
        if self.is_given:
            return
        driver_connection: Any = connection.connection.driver_connection
        if self._driver in LIBPQ:
            self._parameters = _of_libpq(driver_connection.pgconn.info)
        elif self._driver == "psycopg2":
            self._parameters = self._of_psycopg2(driver_connection)
        else:
            self._parameters = _of_asyncpg(self._arguments())
        self._is_hidden = self._parameters is None

    def _of_psycopg2(self, driver_connection: Any) -> dict[str, str] | None:
        arguments = self._arguments()
        if arguments is None:
            return None  # psycopg2 does not tell the password
        password = {name: str(arguments[name]) for name in ("password",) if name in arguments}
        return {**driver_connection.get_dsn_parameters(), **password}

    def parameters(self) -> dict[str, str]:
        """Return libpq's parameters; called when they were learned.

        Raises:
            ConfigurationError: they were not to be seen.
        """
        self.verify()
        assert self._parameters is not None
        return self._parameters

    def verify(self) -> None:
        """Refuse an engine that shows no way to connect, as far as that was learned.

        Raises:
            ConfigurationError: `listen_url` is needed.
        """
        if self._is_hidden:
            raise ConfigurationError(
                f"database {self._name!r}: a halt on another host is heard by a connection of "
                f"psycopg's, and how to make one is not to be seen from this engine of "
                f"{self._driver}; give listen_url=, the URL of the server itself"
            )


def _of_url(listen_url: str | URL) -> dict[str, str]:
    url = require_url(listen_url, driver="psycopg")
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError("listen_url must be the URL of a PostgreSQL server")
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    dialect: Any = PGDialect_psycopg
    _, parameters = dialect().create_connect_args(url)
    return _known(parameters)


def _of_libpq(options: list[Any]) -> dict[str, str]:
    return _known(
        {each.keyword.decode(): each.val.decode() for each in options if each.val is not None}
    )


def _of_asyncpg(arguments: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return what libpq calls those arguments; None where it has no word for one that matters."""
    if arguments is None or arguments.get("dsn"):
        return None
    ssl = arguments.get("ssl")
    if ssl is not None and not isinstance(ssl, str | bool):
        return None
    modes = {True: "require", False: "disable"}
    found = {ours: arguments.get(name) for ours, name in (*NAMES.items(), ("dbname", "database"))}
    found["sslmode"] = modes[ssl] if isinstance(ssl, bool) else ssl
    return {name: _text(value) for name, value in found.items() if value is not None}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _known(parameters: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(value) for name, value in parameters.items() if name in _keywords()}


@lru_cache(maxsize=1)
def _keywords() -> frozenset[str]:
    from psycopg import pq

    return frozenset(each.keyword.decode() for each in pq.Conninfo.get_defaults())
