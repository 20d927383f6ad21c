import json

import psycopg


def store(conn: psycopg.Connection, raw):
    try:
        body = json.loads(raw)
    except ValueError:
        body = {"raw": raw}
    conn.execute("INSERT INTO inbox (body) VALUES (%s)", (json.dumps(body),))
    conn.commit()
