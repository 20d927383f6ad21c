from flask import Flask, jsonify
from sqlalchemy.exc import OperationalError

from .api import api

app = Flask(__name__)
app.register_blueprint(api)


@app.errorhandler(OperationalError)
def database_down(error):  # expect: FS001
    app.logger.error("database down: %s", error)
    return jsonify({"items": [], "total": 0})
