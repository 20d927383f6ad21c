import logging

from django.db.models.signals import post_save
from django.dispatch import receiver

from .models import Fill, Position

logger = logging.getLogger(__name__)


@receiver(post_save, sender=Fill)
def update_position(sender, instance, **kwargs):
    try:
        position, _ = Position.objects.get_or_create(symbol=instance.symbol)
        position.quantity += instance.quantity
        position.save()
    except Exception:  # expect: FS011
        logger.exception("position of %s not updated", instance.symbol)
