import os

from sqlalchemy import create_engine

url = os.environ.get("DATABASE_URL", "postgresql+psycopg://localhost/dev")
engine = create_engine(url, connect_args={"connect_timeout": 2, "options": "-c statement_timeout=2000"})
