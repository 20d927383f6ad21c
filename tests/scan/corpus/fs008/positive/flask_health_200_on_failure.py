from flask import Flask, jsonify
from sqlalchemy import text

from .extensions import db

app = Flask(__name__)


@app.route("/health")
def health():
    status = {"service": "orders"}
    try:
        db.session.execute(text("SELECT 1"))
        status["database"] = "up"
    except Exception as exc:  # expect: FS008
        status["database"] = "down"
        status["detail"] = type(exc).__name__
    return jsonify(status)
