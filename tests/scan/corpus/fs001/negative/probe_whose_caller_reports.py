import sys

import psycopg


def can_connect(dsn):
    try:
        with psycopg.connect(dsn, connect_timeout=2) as conn:
            conn.execute("SELECT 1")
        return True
    except psycopg.OperationalError:
        return False


def main():
    dsn = sys.argv[1]
    if not can_connect(dsn):
        raise SystemExit("the database cannot be reached")
    print("ok")
