import sqlite3
from pathlib import Path

PATH = Path.home() / ".notes.db"


def connection():
    con = sqlite3.connect(PATH)
    con.execute("PRAGMA journal_mode=WAL")
    return con
