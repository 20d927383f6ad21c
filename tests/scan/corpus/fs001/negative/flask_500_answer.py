from flask import Flask, jsonify

from .models import Trade

app = Flask(__name__)


@app.route("/trades")
def trades():
    try:
        return jsonify([t.serialize() for t in Trade.query.limit(100).all()])
    except Exception as e:
        app.logger.exception("trades")
        return jsonify({"error": "internal error"}), 500
