import psycopg

from .errors import ConfigurationError


def open_store(dsn):
    try:
        return psycopg.connect(dsn, connect_timeout=3)
    except psycopg.OperationalError as exc:
        raise ConfigurationError("the order store cannot be opened") from exc
