from django.db import connections
from django.db.utils import OperationalError
from rest_framework.response import Response
from rest_framework.views import APIView


class ReadinessView(APIView):
    authentication_classes = []

    def get(self, request):
        ready = True
        try:
            connections["default"].cursor().execute("SELECT 1")
        except OperationalError:  # expect: FS008
            ready = False
        return Response({"ready": ready})
