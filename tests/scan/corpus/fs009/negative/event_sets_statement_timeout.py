from sqlalchemy import create_engine, event

from .config import URL

engine = create_engine(URL)


@event.listens_for(engine, "connect")
def set_timeout(dbapi_connection, _):
    with dbapi_connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '5s'")
