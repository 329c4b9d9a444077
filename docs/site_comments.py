"""Show the comment that describes a field as its docstring: an extension of griffe."""

import sys
from pathlib import Path
from typing import Any

import griffe  # pyright: ignore[reportMissingImports]

DOCS = str(Path(__file__).parent)
if DOCS not in sys.path:  # griffe imports this file by its path
    sys.path.append(DOCS)

from site_pages import field_comment  # noqa: E402


class FieldComments(griffe.Extension):
    """Give the fields of classes docstrings."""

    def on_attribute_instance(self, *, attr: Any, **_: Any) -> None:
        """Read an attribute's comment (griffe calls this)."""
        if attr.parent.is_class and attr.docstring is None:
            lines = attr.filepath.read_text().splitlines()
            comment = field_comment(lines, attr.lineno, attr.endlineno)
            if comment:
                attr.docstring = griffe.Docstring(comment, parent=attr)
