from cachetools import TTLCache
from flask import Flask, jsonify
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

app = Flask(__name__)
app.config.from_object("settings")
db = SQLAlchemy(app)
_quote_cache = TTLCache(maxsize=512, ttl=60)


@app.get("/quote/<symbol>")
def quote(symbol):
    try:
        row = db.session.execute(
            text("SELECT bid, ask FROM quotes WHERE symbol = :s"), {"s": symbol}
        ).one()
        _quote_cache[symbol] = {"bid": row.bid, "ask": row.ask}
        return jsonify(_quote_cache[symbol])
    except Exception:  # expect: FS001
        return jsonify(_quote_cache.get(symbol, {}))
