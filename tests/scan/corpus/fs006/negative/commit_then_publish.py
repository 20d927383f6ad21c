import psycopg2
from kafka import KafkaProducer

producer = KafkaProducer(bootstrap_servers="kafka:9092")


def fill(conn: "psycopg2.extensions.connection", fill):
    cur = conn.cursor()
    cur.execute("INSERT INTO fills (id, qty) VALUES (%s, %s)", (fill.id, fill.qty))
    conn.commit()
    producer.send("fills", key=fill.id.encode(), value=fill.to_json())
