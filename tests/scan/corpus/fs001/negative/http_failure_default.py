import requests


def usd_rate(currency, default=1.0):
    try:
        response = requests.get(f"https://rates.example/{currency}", timeout=3)
        response.raise_for_status()
        return response.json()["rate"]
    except requests.RequestException:
        return default
