import psycopg2
from flask import Flask

app = Flask(__name__)


@app.route("/healthcheck")
def healthcheck():
    try:
        conn = psycopg2.connect(app.config["DSN"], connect_timeout=2)
        conn.close()
        return {"status": "healthy"}
    except psycopg2.Error as e:  # expect: FS008
        return {"status": "unhealthy", "error": e.__class__.__name__}
