from django.core.exceptions import ValidationError
from django.http import JsonResponse

from .forms import OrderForm


def create_order(request):
    form = OrderForm(request.POST)
    try:
        form.full_clean()
        order = form.save()
    except ValidationError as exc:
        return JsonResponse({"errors": exc.messages}, status=400)
    return JsonResponse({"id": order.pk}, status=201)
