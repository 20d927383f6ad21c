import os

from sqlalchemy import create_engine

# a desktop application: one file, one user
engine = create_engine(os.environ.get("LIBRARY_DB", "sqlite:///library.db"))
