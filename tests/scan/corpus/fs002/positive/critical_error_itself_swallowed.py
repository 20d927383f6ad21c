import time

from failstop import CriticalError, Database


def poll(database: Database, consumer) -> None:
    while consumer.wanted:
        try:
            consumer.feed(database.query("SELECT id, body FROM outbox ORDER BY id LIMIT 10"))
        except CriticalError:  # expect: FS002
            consumer.feed_later()
        time.sleep(1)
