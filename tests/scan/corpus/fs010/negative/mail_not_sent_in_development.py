import os

from .mailer import deliver
from .models import Customer


def greet(customer_id):
    customer = Customer.objects.get(pk=customer_id)
    if os.environ.get("APP_ENV") == "development":
        print("would greet", customer.address)
        return
    deliver(customer.address, "hello")
