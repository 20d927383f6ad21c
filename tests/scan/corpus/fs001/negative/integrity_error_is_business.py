from flask import Blueprint, jsonify, request
from sqlalchemy.exc import IntegrityError

from .extensions import db
from .models import Account

bp = Blueprint("accounts", __name__)


@bp.post("/accounts")
def create_account():
    account = Account(email=request.json["email"])
    db.session.add(account)
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        return jsonify({"error": "email already registered"}), 409
    return jsonify(account.to_dict()), 201
