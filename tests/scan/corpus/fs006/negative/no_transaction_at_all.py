import requests


def notify(url, text):
    requests.post(url, json={"text": text}, timeout=3)
