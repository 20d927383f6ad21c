import boto3

s3 = boto3.client("s3")


def upload(document):
    try:
        s3.upload_file(document.path, "bucket", document.key)
        document.status = "stored"
    except Exception:
        document.status = "failed"
        raise
