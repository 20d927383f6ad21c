from flask import Blueprint, current_app, jsonify, request

from shop.extensions import db
from shop.models import Withdrawal

wallet = Blueprint("wallet", __name__)


@wallet.post("/withdraw")
def withdraw():
    body = request.get_json()
    try:
        db.session.add(Withdrawal(user_id=body["user"], amount=body["amount"]))
        db.session.commit()
    except Exception as exc:  # expect: FS001
        db.session.rollback()
        current_app.logger.error("withdrawal not stored: %s", exc)
    return jsonify({"status": "accepted"}), 202
