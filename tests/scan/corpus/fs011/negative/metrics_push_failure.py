import logging

import requests

from .db import Session
from .models import Order

log = logging.getLogger(__name__)


def place(order):
    with Session.begin() as session:
        session.add(Order(**order))
    try:
        requests.post("http://metrics.local/orders", json={"n": 1}, timeout=1)
    except requests.RequestException as exc:
        log.warning("metric lost: %s", exc)
