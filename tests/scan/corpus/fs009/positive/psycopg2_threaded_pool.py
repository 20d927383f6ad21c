import os

from psycopg2.pool import ThreadedConnectionPool


class Database:
    def __init__(self):
        self.pool = ThreadedConnectionPool(1, 20, os.environ["DATABASE_URL"])  # expect: FS009
