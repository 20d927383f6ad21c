import psycopg2


def drop_database(admin_dsn, name):
    conn = psycopg2.connect(admin_dsn, connect_timeout=3)
    conn.autocommit = True
    try:
        conn.cursor().execute(f"DROP DATABASE IF EXISTS {name}")
    finally:
        conn.close()
