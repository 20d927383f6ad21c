from django.db import transaction

from .models import Invoice
from .tasks import email_invoice


@transaction.atomic
def issue(customer, lines):
    invoice = Invoice.objects.create(customer=customer)
    for line in lines:
        invoice.lines.create(**line)
    email_invoice.delay(invoice.pk)  # expect: FS006
    return invoice
