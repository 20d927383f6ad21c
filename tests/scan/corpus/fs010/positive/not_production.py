import os

from sqlalchemy import text

from .db import engine
from .sample import sample_orders


class OrderFeed:
    def __init__(self):
        self.environment = os.environ.get("ENVIRONMENT", "dev")

    def latest(self):
        if self.environment != "production":  # expect: FS010
            return sample_orders()
        with engine.connect() as conn:
            return conn.execute(text("SELECT * FROM orders ORDER BY id DESC LIMIT 20")).all()
