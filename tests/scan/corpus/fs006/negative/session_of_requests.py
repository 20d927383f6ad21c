import requests

session = requests.Session()


def login(user, password):
    session.headers["agent"] = "bot"
    session.post("https://venue.example/login", data={"u": user, "p": password})
    return session.get("https://venue.example/me").json()
