from sqlalchemy import create_engine

engine = create_engine("postgresql+psycopg://app@db/trading?connect_timeout=5", pool_pre_ping=True)
