"""The documentation site: `sphinx-build -W -b html docs OUT`, without a network.

`-D repository=ADDRESS` says where the files of the repository are read, such as ".../blob/main"; without it what the
pages say of a file outside of docs stays plain text.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import stridenet

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "stridenet"
author = "The stridenet developers"
copyright = author  # noqa: A001
release = version = stridenet.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "accessible",
    "code_tabs",
    "mathml",
    "repository_links",
]
smartquotes_action = "D"  # dashes; quotation marks stay as they are
html_theme = "furo"
html_title = f"stridenet {version}"
html_math_renderer = "mathml"
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4  # page.md#a-heading leads there, as on GitHub

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {
    name: name for name in ("Array", "DTypeLike", "FilePath", "Initializer", "IntOrPair", "Pair", "Schedule", "Shape")
}
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
default_role = "literal"  # `x` in a docstring is code, as in Markdown
copybutton_prompt_text = ">>> |\\.\\.\\. "
copybutton_prompt_is_regexp = True


ARRAY = "~numpy.ndarray[tuple[~typing.Any, ...], ~numpy.dtype[~typing.Any]]"


def named(text: str | None) -> str | None:
    """A signature with the names of our types, where Sphinx has what they stand for."""
    return text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text).replace(ARRAY, "Array")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""

    def shorten(*given: Any) -> tuple[str | None, str | None]:
        *_, signature, result = given
        return named(signature), named(result)

    app.connect("autodoc-process-signature", shorten)
