from fastapi import APIRouter

from .base import CrudController
from .models import Recipe

router = APIRouter()


class RecipeController(CrudController):
    def update(self, item_id, data):
        try:
            return self.repo.update(item_id, data)
        except Exception as ex:
            self.handle_exception(ex)
