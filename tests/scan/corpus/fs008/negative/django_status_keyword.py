from django.db import DatabaseError, connection
from django.http import JsonResponse


def healthz(request):
    healthy = True
    try:
        connection.ensure_connection()
    except DatabaseError:
        healthy = False
    return JsonResponse({"healthy": healthy}, status=200 if healthy else 503)
