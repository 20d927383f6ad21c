from .db import SessionLocal
from .models import Theme


def colours(user):
    if user.mode == "dark":
        return {"background": "#000"}
    with SessionLocal() as session:
        return session.get(Theme, user.theme_id).colours
