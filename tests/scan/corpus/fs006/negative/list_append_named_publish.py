from django.db import transaction

from .models import Article


@transaction.atomic
def publish_all(ids):
    for article in Article.objects.select_for_update().filter(pk__in=ids):
        article.state = "published"
        article.save()
