from flask import Blueprint, jsonify
from sqlalchemy.exc import SQLAlchemyError

from .extensions import db

ops = Blueprint("ops", __name__)


@ops.route("/readyz")
def readyz():
    try:
        db.session.execute(db.text("SELECT 1"))
        return jsonify(ready=True)
    except SQLAlchemyError:
        return jsonify(ready=False), 503
