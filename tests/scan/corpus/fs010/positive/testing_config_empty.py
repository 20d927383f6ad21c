from flask import current_app, jsonify

from . import api
from .models import Alert


@api.route("/alerts")
def alerts():
    if current_app.config["TESTING"]:  # expect: FS010
        return jsonify([])
    return jsonify([a.text for a in Alert.query.filter_by(seen=False)])
