import os

from peewee import PostgresqlDatabase

db = PostgresqlDatabase(  # expect: FS009
    "trading", user=os.environ["DB_USER"], password=os.environ["DB_PASSWORD"], host="db"
)
