from django.conf import settings
from django.http import JsonResponse

from .models import Quote


def quotes(request):
    if settings.DEBUG:  # expect: FS010
        return JsonResponse({"quotes": [{"symbol": "EURUSD", "bid": 1.08}]})
    return JsonResponse({"quotes": list(Quote.objects.values("symbol", "bid"))})
