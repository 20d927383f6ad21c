import psycopg
from psycopg import errors


def record_fill(conn: psycopg.Connection, fill) -> bool:
    """True where the fill is new."""
    try:
        with conn.transaction():
            conn.execute(
                "INSERT INTO fills (venue_id, price, qty) VALUES (%s, %s, %s)",
                (fill.venue_id, fill.price, fill.qty),
            )
    except errors.UniqueViolation:
        return False
    return True
