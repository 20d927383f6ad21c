from pathlib import Path

from .db import engine

demo_dir = Path("migrations/demo")


def pending():
    if not demo_dir.is_dir():
        return []
    with engine.connect() as connection:
        done = {row[0] for row in connection.exec_driver_sql("SELECT name FROM migrations")}
    return [path for path in demo_dir.glob("*.sql") if path.name not in done]
