import psycopg


def has_table(conn: psycopg.Connection, name: str) -> bool:
    try:
        with conn.transaction():
            conn.execute(f"SELECT 1 FROM {name} LIMIT 0")
    except psycopg.Error as exc:
        if exc.sqlstate == "42P01":
            return False
        raise
    return True
