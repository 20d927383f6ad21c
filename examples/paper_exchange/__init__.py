"""An exchange on paper, to try the examples with: `flask --app paper_exchange run --port 9000`.

It knows which orders rest, and forgets them when it ends. No service is to be copied from here.
"""

from flask import Flask
from flask.typing import ResponseReturnValue


def create_app() -> Flask:
    app, resting = Flask(__name__), set[str]()

    @app.get("/orders")
    def list_orders() -> ResponseReturnValue:
        return {"orders": sorted(resting)}

    @app.put("/orders/<order_id>")
    def rest(order_id: str) -> ResponseReturnValue:
        resting.add(order_id)
        return "", 204

    @app.delete("/orders/<order_id>")
    def cancel(order_id: str) -> ResponseReturnValue:
        resting.discard(order_id)
        return "", 204

    @app.delete("/orders")
    def cancel_all() -> ResponseReturnValue:
        resting.clear()
        return "", 204

    return app
