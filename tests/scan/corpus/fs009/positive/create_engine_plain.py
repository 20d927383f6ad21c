from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

engine = create_engine("postgresql+psycopg2://app@db/trading", pool_size=10, pool_pre_ping=True)  # expect: FS009
Session = sessionmaker(bind=engine)
