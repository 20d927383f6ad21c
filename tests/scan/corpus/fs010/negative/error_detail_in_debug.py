from django.conf import settings
from django.http import JsonResponse

from .models import Order


def order(request, pk):
    try:
        found = Order.objects.get(pk=pk)
    except Order.DoesNotExist as exc:
        if settings.DEBUG:
            return JsonResponse({"error": repr(exc)}, status=404)
        return JsonResponse({"error": "not found"}, status=404)
    return JsonResponse({"id": found.pk})
