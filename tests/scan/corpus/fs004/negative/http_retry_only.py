import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from .db import Session
from .models import Rate


@retry(retry=retry_if_exception_type(requests.RequestException), stop=stop_after_attempt(3))
def fetch_rate(currency):
    response = requests.get(f"https://rates.example/{currency}", timeout=5)
    response.raise_for_status()
    return response.json()["rate"]


def refresh(currency):
    rate = fetch_rate(currency)
    with Session() as session:
        session.add(Rate(currency=currency, rate=rate))
        session.commit()
