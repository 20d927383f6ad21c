import psycopg2


def store(conn: "psycopg2.extensions.connection", order, report):
    cur = conn.cursor()
    try:
        cur.execute("INSERT INTO orders (id) VALUES (%s)", (order.id,))
        conn.commit()
    except psycopg2.Error as exc:
        conn.rollback()
        raise report(exc) from exc
