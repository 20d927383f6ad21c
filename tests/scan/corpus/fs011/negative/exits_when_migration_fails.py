import logging
import sys

from .db import Base, engine

log = logging.getLogger(__name__)


def migrate():
    try:
        Base.metadata.create_all(engine)
    except Exception:
        log.exception("migration failed")
        sys.exit(3)
