import logging

from django.contrib import messages
from django.shortcuts import redirect

from .models import Source

logger = logging.getLogger(__name__)


def add_source(request, order_id):
    try:
        Source.objects.create(order_id=order_id, code=request.POST["code"])
    except Exception as error:
        logger.error("source of %s: %s", order_id, error)
        messages.error(request, "the payment source could not be stored")
    return redirect("order", pk=order_id)
