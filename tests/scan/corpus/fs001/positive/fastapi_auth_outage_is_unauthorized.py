from fastapi import Depends, FastAPI, HTTPException, status
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.orm import Session

from .deps import get_db
from .models import User
from .security import decode_token

app = FastAPI()
oauth2 = OAuth2PasswordBearer(tokenUrl="token")


def current_user(token: str = Depends(oauth2), db: Session = Depends(get_db)) -> User:
    claims = decode_token(token)
    try:
        user = db.query(User).filter(User.email == claims["sub"]).one()
    except Exception:  # expect: FS001
        raise HTTPException(
            status_code=status.HTTP_401_UNAUTHORIZED,
            detail="Could not validate credentials",
        )
    return user
