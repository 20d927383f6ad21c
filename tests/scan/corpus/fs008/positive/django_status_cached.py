from django.core.cache import cache
from django.db import connection
from django.http import JsonResponse


def system_status(request):
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM orders_order WHERE state = 'open'")
            (open_orders,) = cursor.fetchone()
        cache.set("open_orders", open_orders)
    except Exception:  # expect: FS008
        open_orders = cache.get("open_orders", 0)
    return JsonResponse({"status": "operational", "open_orders": open_orders})
