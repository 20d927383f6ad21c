import psycopg


def import_all(dsn, rows):
    failed = []
    for row in rows:
        try:
            with psycopg.connect(dsn, connect_timeout=3) as conn:
                conn.execute("INSERT INTO imports (body) VALUES (%s)", (row.body,))
        except psycopg.Error as exc:
            failed.append((row.id, exc.sqlstate))
    return failed
