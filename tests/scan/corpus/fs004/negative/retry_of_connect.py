import time

import psycopg2
from tenacity import retry, stop_after_delay, wait_fixed


@retry(stop=stop_after_delay(30), wait=wait_fixed(1))
def connect(dsn):
    return psycopg2.connect(dsn, connect_timeout=3)


def wait_for_database(dsn):
    for _ in range(30):
        try:
            psycopg2.connect(dsn, connect_timeout=1).close()
            return
        except psycopg2.OperationalError:
            time.sleep(1)
    raise SystemExit("database did not come up")
