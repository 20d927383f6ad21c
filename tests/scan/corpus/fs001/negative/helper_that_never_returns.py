from typing import NoReturn

import psycopg

from .errors import LedgerError


class Ledger:
    def __init__(self, conn: psycopg.Connection):
        self.conn = conn

    def _failed(self, error) -> NoReturn:
        raise LedgerError("ledger") from error

    def total(self):
        try:
            return self.conn.execute("SELECT sum(amount) FROM ledger").fetchone()[0]
        except psycopg.Error as error:
            self._failed(error)
