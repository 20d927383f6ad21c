import logging

import psycopg2

from .memory import InMemoryOrderStore

logger = logging.getLogger(__name__)


class OrderService:
    def __init__(self, dsn):
        try:
            self.store = PostgresOrderStore(psycopg2.connect(dsn, connect_timeout=3))
        except psycopg2.OperationalError:  # expect: FS003
            logger.error("no database, orders are kept in memory")
            self.store = InMemoryOrderStore()


class PostgresOrderStore:
    def __init__(self, connection):
        self.connection = connection
