from sqlalchemy import create_engine

from failstop import Database, FailSafe

failsafe = FailSafe("orders")
engine = create_engine("postgresql+psycopg://app@db/trading")
database = Database(engine, failsafe, deadline=2.0)
