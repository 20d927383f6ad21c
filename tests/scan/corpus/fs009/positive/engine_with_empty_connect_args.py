from sqlalchemy import create_engine


def make(url):
    """url: postgresql+psycopg://…"""
    options = {"application_name": "worker"}
    return create_engine(url, connect_args=options)  # expect: FS009
