import os

import psycopg


def venue_url():
    if os.environ.get("APP_ENV") == "production":
        return "https://api.venue.example"
    return "https://sandbox.venue.example"


def keys(dsn):
    with psycopg.connect(dsn, connect_timeout=2) as conn:
        return conn.execute("SELECT key, secret FROM venue_keys").fetchone()
