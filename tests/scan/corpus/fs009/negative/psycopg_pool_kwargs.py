from psycopg_pool import AsyncConnectionPool

from .config import DSN

pool = AsyncConnectionPool(
    DSN, open=False, kwargs={"connect_timeout": 3, "options": "-c statement_timeout=4000"}
)
