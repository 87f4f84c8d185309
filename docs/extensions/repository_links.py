"""Links that leave docs, such as ../src/stridenet/layout.py: to the page of the repository, or plain text without one.

The Markdown is written for both places: in the repository the same links lead to the files themselves.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

DOCS = Path(__file__).resolve().parents[1]


class RepositoryLinks(SphinxTransform):
    """What leads to a file or folder of the repository that is no page of the site."""

    default_priority = 1  # before Sphinx takes them for pages or downloads

    def apply(self, **kwargs: Any) -> None:
        """Replace these links."""
        for kind in (addnodes.pending_xref, addnodes.download_reference):
            for node in list(self.document.findall(kind)):
                path = self._outside(node)
                if path is not None:
                    node.replace_self(self._link(node, path))

    def _outside(self, node: nodes.Element) -> str | None:
        """Where a link leads, counted from the root of the repository; None if it is for Sphinx or leads nowhere."""
        if node.get("reftype") != "myst":
            return None
        # a link to a .md file, whose target is a page or an absolute path without .md
        page = node["refdomain"] == "doc"
        name = node["reftarget"].partition("#")[0] + (".md" if page else "")
        path = Path(os.path.normpath(DOCS / ("" if page else Path(node["refdoc"]).parent) / name))
        if not name or not path.exists() or (page and path.is_relative_to(DOCS)):
            return None
        return path.relative_to(DOCS.parent).as_posix() + (f"#{node['reftargetid']}" if node.get("reftargetid") else "")

    def _link(self, node: nodes.Element, path: str) -> list[nodes.Node]:
        base = self.config.repository
        if base is None:
            return node.children
        return [nodes.reference("", "", *node.children, refuri=f"{base.rstrip('/')}/{path}", internal=False)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_config_value("repository", None, "env", (str, type(None)))
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
