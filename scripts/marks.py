"""Put text between two marks of a page: `<!-- NAME -->` and `<!-- end of NAME -->`, each on a line of its own."""

from __future__ import annotations


def put(page: str, name: str, text: str) -> str:
    """Return the page with ``text`` between the marks of ``name``; raises ValueError where it lacks one of them."""
    first, last = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    start = page.index(first) + len(first)
    end = page.index(last, start)
    return f"{page[:start]}\n{text.strip()}\n\n{page[end:]}"
