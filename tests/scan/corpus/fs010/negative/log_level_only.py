import logging
import os

from .db import engine

ENV = os.environ.get("APP_ENV", "development")

if ENV == "development":
    logging.basicConfig(level=logging.DEBUG)


def ping():
    with engine.connect() as conn:
        return conn.exec_driver_sql("SELECT 1").scalar()
