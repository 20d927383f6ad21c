import psycopg


def _audit(cur, user, action):
    try:
        cur.execute("INSERT INTO audit (who, what) VALUES (%s, %s)", (user, action))
    except Exception:  # expect: FS005
        pass


def cancel(conn: psycopg.Connection, order_id, user):
    with conn.cursor() as cur:
        cur.execute("UPDATE orders SET state = 'cancelled' WHERE id = %s", (order_id,))
        _audit(cur, user, f"cancel {order_id}")
    conn.commit()
