from sqlalchemy import create_engine

engine = create_engine(
    "postgresql+psycopg2://app@db/trading",
    connect_args={"connect_timeout": 3, "options": "-c statement_timeout=5000"},
)
