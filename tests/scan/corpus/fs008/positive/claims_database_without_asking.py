import time

from flask import Blueprint, jsonify

ops = Blueprint("ops", __name__)
STARTED = time.time()


@ops.get("/health")
def health():  # expect: FS008
    return jsonify(
        {"status": "healthy", "database": "connected", "uptime": int(time.time() - STARTED)}
    )
