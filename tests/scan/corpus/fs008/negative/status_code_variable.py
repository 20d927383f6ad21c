from flask import Flask, jsonify
from sqlalchemy import text

from .extensions import db

app = Flask(__name__)


@app.route("/health")
def health():
    body, code = {"database": "up"}, 200
    try:
        db.session.execute(text("SELECT 1"))
    except Exception:
        body, code = {"database": "down"}, 503
    return jsonify(body), code
