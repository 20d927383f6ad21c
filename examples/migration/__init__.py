"""One trading service twice: `before`, full of dangerous fallbacks, and `after`, on failstop."""
