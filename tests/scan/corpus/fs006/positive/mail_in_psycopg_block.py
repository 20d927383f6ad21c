import smtplib

import psycopg


def confirm(dsn, order_id, mail):
    with psycopg.connect(dsn, connect_timeout=3) as conn:
        conn.execute("UPDATE orders SET confirmed = now() WHERE id = %s", (order_id,))
        with smtplib.SMTP("mail.example") as server:
            server.sendmail("desk@example", mail["to"], mail["body"])  # expect: FS006
