import psycopg
from tenacity import Retrying, stop_after_attempt


def append_event(dsn, stream, body):
    for attempt in Retrying(stop=stop_after_attempt(3), reraise=True):  # expect: FS004
        with attempt:
            with psycopg.connect(dsn, connect_timeout=3) as conn:
                conn.execute("INSERT INTO events (stream, body) VALUES (%s, %s)", (stream, body))
