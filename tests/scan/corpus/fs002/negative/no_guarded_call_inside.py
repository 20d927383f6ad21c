import json

from failstop import Database


def parse(database: Database, raw):
    try:
        body = json.loads(raw)
    except Exception:
        body = {}
    return database.query("SELECT 1 FROM known WHERE kind = :k", {"k": body.get("kind")})
