from decimal import Decimal, InvalidOperation

from peewee import fn

from .models import Payment


def paid_total(raw_minimum):
    try:
        minimum = Decimal(raw_minimum)
    except InvalidOperation:
        minimum = Decimal(0)
    return Payment.select(fn.SUM(Payment.amount)).where(Payment.amount >= minimum).scalar()
