import os

import psycopg2
from psycopg2.extras import RealDictCursor


class AccountStore:
    def __init__(self, dsn=None):
        self.dsn = dsn or os.environ["ACCOUNTS_DSN"]

    def balance(self, account_id):
        conn = None
        try:
            conn = psycopg2.connect(self.dsn, connect_timeout=3)
            with conn.cursor(cursor_factory=RealDictCursor) as cur:
                cur.execute("SELECT cash FROM accounts WHERE id = %s", (account_id,))
                row = cur.fetchone()
                return float(row["cash"])
        except psycopg2.OperationalError:  # expect: FS001
            return 0.0
        finally:
            if conn is not None:
                conn.close()
