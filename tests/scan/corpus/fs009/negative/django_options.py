DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "OPTIONS": {"connect_timeout": 3, "options": "-c statement_timeout=5000"},
    }
}
