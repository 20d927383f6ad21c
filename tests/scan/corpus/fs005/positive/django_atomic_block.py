import logging

from django.db import DatabaseError, transaction

from .models import Audit, Order

logger = logging.getLogger(__name__)


def close_order(order_id, actor):
    with transaction.atomic():
        Order.objects.filter(pk=order_id).update(state="closed")
        try:
            Audit.objects.create(order_id=order_id, actor=actor)
        except DatabaseError:  # expect: FS005
            logger.exception("audit row")
