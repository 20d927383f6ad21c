import time

import peewee

from .models import Bid, database


def place_bid(auction_id, cents):
    delay = 0.1
    for _ in range(4):  # expect: FS004
        try:
            with database.atomic():
                return Bid.create(auction=auction_id, cents=cents)
        except peewee.OperationalError:
            time.sleep(delay)
            delay *= 2
    raise TimeoutError("bid not placed")
