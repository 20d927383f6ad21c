from contextlib import suppress

import psycopg


def revoke(dsn, session_id):
    with suppress(psycopg.Error):  # expect: FS011
        with psycopg.connect(dsn, connect_timeout=2) as conn:
            conn.execute("DELETE FROM sessions WHERE id = %s", (session_id,))
