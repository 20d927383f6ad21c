import logging

from flask import Blueprint, jsonify
from sqlalchemy.exc import SQLAlchemyError

from .extensions import db
from .models import Order

bp = Blueprint("orders", __name__)
log = logging.getLogger(__name__)


@bp.route("/api/orders/open")
def open_orders():
    try:
        rows = Order.query.filter_by(status="open").order_by(Order.created_at.desc()).all()
        return jsonify([row.to_dict() for row in rows])
    except SQLAlchemyError as exc:  # expect: FS001
        log.error("could not load open orders: %s", exc)
        return jsonify([])
