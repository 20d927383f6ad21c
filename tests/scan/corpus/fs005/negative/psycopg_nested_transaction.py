import psycopg


def store(conn: psycopg.Connection, rows):
    bad = []
    with conn.transaction():
        for row in rows:
            try:
                with conn.transaction():
                    conn.execute("INSERT INTO rows (body) VALUES (%s)", (row,))
            except psycopg.errors.DataError:
                bad.append(row)
    return bad
