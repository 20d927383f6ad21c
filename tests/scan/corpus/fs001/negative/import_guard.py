try:
    import psycopg2
except ImportError:
    psycopg2 = None


def connect(dsn):
    if psycopg2 is None:
        raise RuntimeError("install the postgres extra")
    return psycopg2.connect(dsn, connect_timeout=5)
