import stripe
from flask import Blueprint, jsonify, request

from .extensions import db
from .models import Purchase

shop = Blueprint("shop", __name__)


@shop.post("/buy")
def buy():
    purchase = Purchase(item=request.json["item"], state="paid")
    db.session.add(purchase)
    db.session.flush()
    stripe.Charge.create(amount=purchase.cents, currency="eur", source=request.json["token"])  # expect: FS006
    db.session.commit()
    return jsonify(id=purchase.id)
