import psycopg
from psycopg import errors


def rebalance(conn: psycopg.Connection, moves):
    for attempt in range(5):
        try:
            with conn.transaction():
                for account, delta in moves:
                    conn.execute("UPDATE books SET qty = qty + %s WHERE id = %s", (delta, account))
            return
        except (errors.SerializationFailure, errors.DeadlockDetected):
            continue
    raise RuntimeError("too much contention")
