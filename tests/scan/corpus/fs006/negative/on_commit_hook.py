from django.db import transaction

from .models import Invoice
from .tasks import email_invoice


@transaction.atomic
def issue(customer):
    invoice = Invoice.objects.create(customer=customer)
    transaction.on_commit(lambda: email_invoice.delay(invoice.pk))
    return invoice
