import os

from flask import Blueprint, jsonify

from .models import Position

bp = Blueprint("positions", __name__)
ENV = os.environ.get("APP_ENV", "development")


@bp.get("/positions")
def positions():
    if ENV == "development":  # expect: FS010
        return jsonify([{"symbol": "AAPL", "qty": 100}])
    return jsonify([p.to_dict() for p in Position.query.all()])
