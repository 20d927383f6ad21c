import stripe
from django.db import models


class Payment(models.Model):
    state = models.CharField(max_length=20)
    cents = models.IntegerField()

    def collect(self, token):
        try:
            stripe.PaymentIntent.create(amount=self.cents, currency="eur", payment_method=token)
            gateway_submit_payment(self)
            self.state = "paid"
        except Exception:  # expect: FS012
            self.state = "failed"
        self.save()


def gateway_submit_payment(payment):
    stripe.api.submit_payment(payment.pk)
