from celery import shared_task
from django.db import OperationalError

from .models import Report


@shared_task(bind=True, max_retries=5)
def build_report(self, report_id):
    try:
        report = Report.objects.get(pk=report_id)
    except OperationalError as exc:
        raise self.retry(exc=exc, countdown=10)
    return report.render()
