import psycopg


def store(dsn, rows):
    failed = []
    with psycopg.connect(dsn, connect_timeout=3) as conn:
        for row in rows:
            try:
                with conn.transaction():
                    conn.execute("INSERT INTO rows (body) VALUES (%s)", (row,))
            except psycopg.Error as error:
                failed.append((row, error.sqlstate))
    return failed
