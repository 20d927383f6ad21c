import json
import logging
from pathlib import Path

import pymysql

log = logging.getLogger("bot")


class PositionBook:
    def __init__(self, **options):
        try:
            self.backend = MySQLBackend(pymysql.connect(connect_timeout=3, **options))
        except pymysql.MySQLError as exc:  # expect: FS003
            log.error("mysql gone: %s", exc)
            self.backend = JsonFileBackend(Path("positions.json"))


class MySQLBackend:
    def __init__(self, connection):
        self.connection = connection


class JsonFileBackend:
    def __init__(self, path):
        self.path = path
        self.rows = json.loads(path.read_text()) if path.exists() else []
