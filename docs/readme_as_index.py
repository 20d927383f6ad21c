"""Make the README the first page: one text, with links that lead from here."""

from pathlib import Path
from typing import Any


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Give the README in place of `index.md`."""
    if page.file.src_uri != "index.md":
        return markdown
    readme = Path(config.config_file_path).with_name("README.md").read_text("utf-8")
    return readme.replace("](docs/", "](")
