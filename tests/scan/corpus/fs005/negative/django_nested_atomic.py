from django.db import IntegrityError, transaction

from .models import Membership, Order


def join(order_id, user):
    with transaction.atomic():
        order = Order.objects.select_for_update().get(pk=order_id)
        try:
            with transaction.atomic():
                Membership.objects.create(order=order, user=user)
        except IntegrityError:
            pass
        order.touch()
