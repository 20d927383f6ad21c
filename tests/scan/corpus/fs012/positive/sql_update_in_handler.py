import psycopg


def settle(conn: psycopg.Connection, trade_id):
    try:
        conn.execute("UPDATE trades SET settled_at = now() WHERE id = %s", (trade_id,))
        conn.commit()
    except psycopg.OperationalError:  # expect: FS012
        with psycopg.connect(conn.info.dsn, connect_timeout=3) as fresh:
            fresh.execute("UPDATE trades SET status = 'failed' WHERE id = %s", (trade_id,))
        raise
