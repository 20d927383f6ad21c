"""The HTTP face."""

from flask import Flask, jsonify, request
from sqlalchemy import text

from migration.before import book, trading
from migration.before.store import engine, prepare

app = Flask(__name__)
prepare()


@app.post("/orders")
def place_order():
    order = request.get_json()
    trading.place_order(order)
    trading.record_event(order["id"], "placed")
    return jsonify(order), 201


@app.get("/orders")
def list_orders():
    return jsonify(book.list_orders())


@app.get("/orders/<order_id>")
def show_order(order_id):
    order = book.find_order(order_id)
    if order is None:
        return jsonify(error="no such order"), 404
    return jsonify(order)


@app.post("/orders/<order_id>/cancel")
def cancel_order(order_id):
    trading.cancel_order(order_id)
    return "", 204


@app.get("/positions")
def list_positions():
    return jsonify(book.list_positions())


@app.get("/health")
def health():
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        database = "up"
    except Exception:
        database = "degraded"
    return jsonify(status="ok", database=database)
