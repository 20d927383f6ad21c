from flask import Blueprint, abort, jsonify

from .models import Basket

bp = Blueprint("basket", __name__)


@bp.get("/basket/<int:basket_id>")
def basket(basket_id):
    found = Basket.query.get(basket_id)
    if found is None:
        abort(404)
    return jsonify(found.lines or [])
