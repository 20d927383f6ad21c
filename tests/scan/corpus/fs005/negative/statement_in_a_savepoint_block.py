import psycopg

from .errors import NoteLost


def savepoint(conn):
    return conn.transaction(force_rollback=False)


def settle(dsn, trades, report):
    with psycopg.connect(dsn, connect_timeout=3) as conn:
        for trade in trades:
            conn.execute("UPDATE trades SET settled = true WHERE id = %s", (trade,))
            try:
                with savepoint(conn):
                    conn.execute("INSERT INTO notes (trade) VALUES (%s)", (trade,))
            except psycopg.Error as error:
                report.append(NoteLost(trade, error))
