from psycopg_pool import ConnectionPool

from .config import DSN

pool = ConnectionPool(DSN, min_size=2, max_size=20, open=True)  # expect: FS009


def rows(sql, *params):
    with pool.connection() as conn:
        return conn.execute(sql, params).fetchall()
