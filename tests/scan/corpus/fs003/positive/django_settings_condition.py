import os
from pathlib import Path

import dj_database_url

BASE_DIR = Path(__file__).resolve().parent.parent

if os.environ.get("DATABASE_URL"):  # expect: FS003
    DATABASES = {"default": dj_database_url.config(conn_max_age=600, options={"connect_timeout": 3})}
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": BASE_DIR / "db.sqlite3",
        }
    }
