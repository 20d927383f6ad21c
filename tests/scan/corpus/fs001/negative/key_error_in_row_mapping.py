import psycopg
from psycopg.rows import dict_row


def preferences(dsn, user):
    with psycopg.connect(dsn, row_factory=dict_row) as conn:
        row = conn.execute("SELECT prefs FROM users WHERE id = %s", (user,)).fetchone()
    try:
        return row["prefs"]["theme"]
    except (KeyError, TypeError):
        return "light"
