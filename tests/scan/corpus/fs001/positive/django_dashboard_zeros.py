import logging

from django.contrib.auth.decorators import login_required
from django.db.models import Sum
from django.shortcuts import render

from .models import Order, Payment

logger = logging.getLogger(__name__)


@login_required
def dashboard(request):
    try:
        revenue = Payment.objects.filter(paid=True).aggregate(total=Sum("amount"))["total"]
        open_orders = Order.objects.filter(state="open").count()
    except Exception as exc:  # expect: FS001
        logger.error("dashboard query failed: %s", exc)
        revenue = 0
        open_orders = 0
    return render(request, "dashboard.html", {"revenue": revenue, "open_orders": open_orders})
