import logging

from sqlalchemy import event, text

from .models import Trade

logger = logging.getLogger(__name__)


@event.listens_for(Trade, "after_insert")
def write_change(mapper, connection, target):
    try:
        connection.execute(
            text("INSERT INTO changes (kind, trade_id) VALUES ('insert', :id)"), {"id": target.id}
        )
    except Exception as exc:  # expect: FS005
        logger.error("change of %s not written: %s", target.id, exc)
