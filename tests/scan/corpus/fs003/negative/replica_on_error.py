import psycopg

from .settings import PRIMARY, REPLICA


def read_connection():
    """Reads may come from the replica: the same data, the same server software."""
    try:
        return psycopg.connect(REPLICA, connect_timeout=1)
    except psycopg.OperationalError:
        return psycopg.connect(PRIMARY, connect_timeout=3)
