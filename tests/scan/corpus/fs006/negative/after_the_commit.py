import requests
from django.db import transaction

from .models import Shipment


def dispatch(shipment_id):
    with transaction.atomic():
        shipment = Shipment.objects.select_for_update().get(pk=shipment_id)
        shipment.state = "sending"
        shipment.save()
    requests.post("https://carrier.example/pickup", json={"ref": shipment.ref}, timeout=5)
