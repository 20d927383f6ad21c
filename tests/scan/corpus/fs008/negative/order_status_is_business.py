from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy.orm import Session

from .db import get_db
from .models import Order

router = APIRouter()


@router.get("/orders/{order_id}/status")
def order_status(order_id: int, db: Session = Depends(get_db)):
    order = db.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "no such order")
    return {"status": order.status}
