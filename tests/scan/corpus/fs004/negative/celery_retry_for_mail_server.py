import smtplib

from celery import shared_task

from .mailer import send
from .models import Notice


@shared_task(autoretry_for=(smtplib.SMTPServerDisconnected,), max_retries=3)
def deliver(notice_id):
    notice = Notice.objects.get(pk=notice_id)
    send(notice.address, notice.text)
