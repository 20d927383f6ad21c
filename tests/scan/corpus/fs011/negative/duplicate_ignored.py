import logging

from django.db import IntegrityError

from .models import Subscription

logger = logging.getLogger(__name__)


def subscribe(user, topic):
    try:
        Subscription.objects.create(user=user, topic=topic)
    except IntegrityError:
        logger.info("already subscribed")
