from flask import Flask

app = Flask(__name__)


def cookie_options():
    if app.config["ENV"] == "production":
        return {"secure": True, "httponly": True}
    return {"httponly": True}
