from sqlalchemy import text

from .db import engine


def migrate():
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE orders ADD COLUMN venue text"))
        try:
            connection.execute(text("CREATE INDEX orders_venue ON orders (venue)"))
        except Exception as e:  # expect: FS005
            print("index exists?", e)
