import psycopg

from failstop import CriticalError


class Warmup:
    def run(self, loader, dsn):
        try:
            with psycopg.connect(dsn, connect_timeout=3) as connection:
                loader.load(connection.execute("SELECT symbol FROM instruments"))
        except CriticalError:
            raise
        except Exception as error:
            loader.note(error)
            loader.start_anyway()
