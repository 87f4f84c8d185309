"""What the theme leaves out: levels of its headings, scrolling with the keyboard, the language of Chinese pages."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

CHANGES = {  # in the part of a page that the key names
    "furo_navigation_tree": {'role="heading"': 'role="heading" aria-level="2"'},
    "body": {
        "<pre>": '<pre tabindex="0">',
        '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
    },
}


def mend(_app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Called with the parts of each page."""
    if page.startswith("zh/"):
        context["language"] = "zh-CN"
    for part, changes in CHANGES.items():
        for old, new in changes.items():
            if part in context:
                context[part] = context[part].replace(old, new)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("html-page-context", mend, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}
