from celery import shared_task
from django.db import transaction

from .models import Account, Transfer


@shared_task(autoretry_for=(Exception,), retry_backoff=True, max_retries=5)  # expect: FS004
def transfer(source_id, target_id, cents):
    with transaction.atomic():
        source = Account.objects.select_for_update().get(pk=source_id)
        target = Account.objects.select_for_update().get(pk=target_id)
        source.balance -= cents
        target.balance += cents
        source.save()
        target.save()
        Transfer.objects.create(source=source, target=target, cents=cents)
