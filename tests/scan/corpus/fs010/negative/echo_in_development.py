import os

from sqlalchemy import create_engine

DEBUG = os.environ.get("DEBUG") == "1"
engine = create_engine(
    os.environ["DATABASE_URL"],
    echo=DEBUG,
    connect_args={"connect_timeout": 3, "options": "-c statement_timeout=3000"},
)
