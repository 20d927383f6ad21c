import os

from peewee import PostgresqlDatabase, SqliteDatabase

if os.getenv("PG_DSN") is None:  # expect: FS003
    db = SqliteDatabase(":memory:")
else:
    db = PostgresqlDatabase(os.environ["PG_DSN"], options="-c statement_timeout=3000", connect_timeout=3)
