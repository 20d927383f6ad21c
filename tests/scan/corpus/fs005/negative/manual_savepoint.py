import psycopg2


def store(conn: "psycopg2.extensions.connection", order, note):
    cur = conn.cursor()
    cur.execute("INSERT INTO orders (id) VALUES (%s)", (order.id,))
    try:
        cur.execute("SAVEPOINT note")
        cur.execute("INSERT INTO notes (order_id, body) VALUES (%s, %s)", (order.id, note))
    except psycopg2.Error:
        cur.execute("ROLLBACK TO SAVEPOINT note")
    conn.commit()
