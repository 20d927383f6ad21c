from django.db import transaction

from .chat import bot
from .models import Preference


def command(user, words):
    with transaction.atomic():
        if words[0] == "/help":
            bot.send_message(user.chat, "commands: /help, /mute")
        elif words[0] == "/mute":
            Preference.objects.filter(user=user).update(muted=True)
