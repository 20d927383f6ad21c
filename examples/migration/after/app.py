"""The HTTP face: every route is protected, and failstop answers for the state of the service."""

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue

from failstop import (
    Database,
    FailSafe,
    IdempotencyConflictError,
    KeyInFlightError,
    ReceiptExpiredError,
)
from failstop.flask import FailStop
from migration.after.book import Book
from migration.after.settings import Settings
from migration.after.trading import Desk
from migration.after.venue import Venue


def create_app(failsafe: FailSafe, database: Database, venue: Venue) -> Flask:
    """Make the application; the caller starts the FailSafe and closes it."""
    app = Flask(__name__)
    FailStop(app, failsafe=failsafe, database=database)
    book, desk = Book(database), Desk(database, venue)

    @app.post("/orders")
    def place_order() -> ResponseReturnValue:
        order = request.get_json()
        return jsonify(id=order["id"], reference=desk.place_order(order)), 201

    @app.get("/orders")
    def list_orders() -> Response:
        return jsonify(book.orders())

    @app.get("/orders/<order_id>")
    def show_order(order_id: str) -> ResponseReturnValue:
        order = book.order(order_id)
        return jsonify(order) if order else (jsonify(error="no such order"), 404)

    @app.post("/orders/<order_id>/cancel")
    def cancel_order(order_id: str) -> ResponseReturnValue:
        if not desk.cancel_order(order_id):
            return jsonify(error="no such order at the venue"), 409
        return "", 204

    @app.get("/positions")
    def list_positions() -> Response:
        return jsonify(book.positions())

    @app.errorhandler(IdempotencyConflictError)
    @app.errorhandler(KeyInFlightError)
    def refuse_conflict(error: IdempotencyConflictError | KeyInFlightError) -> ResponseReturnValue:
        return jsonify(error=str(error), key=error.key), 409

    @app.errorhandler(ReceiptExpiredError)
    def refuse_expired(error: ReceiptExpiredError) -> ResponseReturnValue:
        return jsonify(error=str(error), key=error.key), 410

    return app


def main() -> None:
    """Serve until interrupted."""
    settings = Settings.from_environment()
    failsafe = FailSafe("trading-api", store=settings.store)
    database = Database.connect(settings.database_url, failsafe, deadline=2.0)
    venue = Venue(settings.venue_url, failsafe)
    app = create_app(failsafe, database, venue)
    with failsafe:
        app.run(port=8000)


if __name__ == "__main__":
    main()
