import os

import psycopg2


def get_connection():
    try:
        return psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=5)
    except psycopg2.Error as e:  # expect: FS001
        print("connection failed", e)
        return None


def active_orders(user_id):
    conn = get_connection()
    if conn is None:  # expect: FS001
        return []
    with conn.cursor() as cur:
        cur.execute("SELECT id, symbol, side FROM orders WHERE user_id = %s AND active", (user_id,))
        return cur.fetchall()


def save_fill(order_id, price, qty):
    conn = get_connection()
    if not conn:  # expect: FS001
        return
    with conn, conn.cursor() as cur:
        cur.execute(
            "INSERT INTO fills (order_id, price, qty) VALUES (%s, %s, %s)", (order_id, price, qty)
        )
