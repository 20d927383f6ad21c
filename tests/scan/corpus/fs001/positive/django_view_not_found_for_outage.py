from django.db import DatabaseError
from django.http import JsonResponse
from django.views import View

from .models import Portfolio


class PortfolioView(View):
    def get(self, request, pk):
        try:
            portfolio = Portfolio.objects.select_related("owner").get(pk=pk)
        except (Portfolio.DoesNotExist, DatabaseError):  # expect: FS001
            return JsonResponse({"detail": "portfolio not found"}, status=404)
        return JsonResponse({"id": portfolio.pk, "owner": portfolio.owner.username})
