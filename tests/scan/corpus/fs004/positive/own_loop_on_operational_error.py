import time

import psycopg2


def debit(dsn, account, amount):
    for attempt in range(5):  # expect: FS004
        try:
            with psycopg2.connect(dsn, connect_timeout=3) as conn:
                with conn.cursor() as cur:
                    cur.execute(
                        "UPDATE accounts SET cash = cash - %s WHERE id = %s", (amount, account)
                    )
                conn.commit()
            return
        except psycopg2.OperationalError:
            time.sleep(2**attempt)
    raise RuntimeError("debit failed")
