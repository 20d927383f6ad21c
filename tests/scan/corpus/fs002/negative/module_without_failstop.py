from gui import screen


def paint(feed):
    try:
        screen.draw(feed.read())
    except Exception:
        screen.draw_nothing()
