import psycopg2


def import_rows(dsn, rows):
    failed = []
    conn = psycopg2.connect(dsn, connect_timeout=3)
    for row in rows:
        try:
            with conn, conn.cursor() as cur:
                cur.execute("INSERT INTO imports (body) VALUES (%s)", (row,))
        except psycopg2.DataError:
            failed.append(row)
    return failed
