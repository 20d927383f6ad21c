import redis
from sqlalchemy.orm import Session

from .models import Product

cache = redis.Redis(socket_timeout=1)


def product_name(session: Session, product_id: int) -> str:
    try:
        hit = cache.get(f"product:{product_id}")
    except redis.RedisError:
        hit = None
    if hit:
        return hit.decode()
    return session.get(Product, product_id).name
