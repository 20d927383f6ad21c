from django.http import Http404, JsonResponse

from .models import Instrument


def instrument(request, symbol):
    try:
        found = Instrument.objects.get(symbol=symbol.upper())
    except Instrument.DoesNotExist:
        raise Http404("no such instrument")
    return JsonResponse({"symbol": found.symbol, "tick": str(found.tick_size)})
