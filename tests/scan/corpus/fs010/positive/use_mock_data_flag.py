import os

import psycopg

USE_MOCK_DATA = os.getenv("USE_MOCK_DATA", "true").lower() == "true"
MOCK_BALANCE = {"cash": 100_000.0, "equity": 100_000.0}


def balance(dsn, account):
    if USE_MOCK_DATA:  # expect: FS010
        return MOCK_BALANCE
    with psycopg.connect(dsn, connect_timeout=3) as conn:
        row = conn.execute("SELECT cash, equity FROM accounts WHERE id = %s", (account,)).fetchone()
    return {"cash": row[0], "equity": row[1]}
