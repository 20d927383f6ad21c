import logging
import os

from sqlalchemy import create_engine, text

log = logging.getLogger(__name__)


def make_engine():
    url = os.environ["DATABASE_URL"]
    try:
        engine = create_engine(url, connect_args={"connect_timeout": 3, "options": "-c statement_timeout=5000"})
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except Exception as exc:  # expect: FS003
        log.warning("PostgreSQL unreachable (%s), using SQLite", exc)
        engine = create_engine("sqlite:///local.db")
    bind(engine)


def bind(engine):
    from .models import Base

    Base.metadata.bind = engine
