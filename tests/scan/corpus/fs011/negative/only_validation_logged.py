import logging

from .db import Session
from .models import Bar

log = logging.getLogger(__name__)


def store(raw):
    try:
        bar = Bar(ts=int(raw["ts"]), close=float(raw["close"]))
    except (KeyError, ValueError) as exc:
        log.warning("bad bar: %s", exc)
        return
    with Session.begin() as session:
        session.add(bar)
