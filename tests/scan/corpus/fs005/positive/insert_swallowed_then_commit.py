import psycopg2


def store(conn: "psycopg2.extensions.connection", order, tags):
    cur = conn.cursor()
    cur.execute("INSERT INTO orders (id, symbol) VALUES (%s, %s)", (order.id, order.symbol))
    try:
        cur.execute("INSERT INTO order_tags (order_id, tags) VALUES (%s, %s)", (order.id, tags))
    except psycopg2.Error as e:  # expect: FS005
        print("tags not stored:", e)
    conn.commit()
