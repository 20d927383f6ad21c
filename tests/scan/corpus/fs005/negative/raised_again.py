import psycopg2


def store(conn: "psycopg2.extensions.connection", order):
    cur = conn.cursor()
    try:
        cur.execute("INSERT INTO orders (id) VALUES (%s)", (order.id,))
    except psycopg2.Error:
        conn.rollback()
        raise
    conn.commit()
