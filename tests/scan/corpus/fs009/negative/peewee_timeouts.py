from peewee import PostgresqlDatabase

db = PostgresqlDatabase("trading", host="db", connect_timeout=3, options="-c statement_timeout=5000")
