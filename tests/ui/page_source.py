"""router/ui/page.html taken apart: its elements with their attributes, its style and its script."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "router/ui/page.html"
_VOID = {"meta", "link", "input", "br", "img", "hr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""  # with that of the elements inside
    inside: list[str] = field(default_factory=list)  # tags of the elements around it, outermost first


class PageSource(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[Element] = []
        self.unclosed: list[str] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        self.unclosed += [element.tag for element in self._open]
        self.style = self.only("style").text
        self.script = self.only("script").text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, inside=[one.tag for one in self._open])
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1].tag != tag:
            self.unclosed.append(f"</{tag}>")
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def only(self, tag: str) -> Element:
        found = [element for element in self.elements if element.tag == tag]
        assert len(found) == 1, f"{len(found)} elements <{tag}>"
        return found[0]

    def ids(self) -> list[str]:
        return [element.attributes["id"] for element in self.elements if "id" in element.attributes]


def colours(style: str) -> dict[str, dict[str, str]]:
    """The custom properties with colours: {"light": {"ink": "#1d2327"}, "dark": ...}; dark has what it does not say from light."""
    blocks = re.findall(r":root\s*{([^}]*)}", style)
    assert len(blocks) == 2, "wanted one :root for light and one for dark"
    light, dark = (dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{3,6})\b", block)) for block in blocks)
    return {"light": light, "dark": {**light, **dark}}


def contrast(first: str, second: str) -> float:
    """WCAG's ratio of two colours like #1d2327."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(digits[i:i + 2], 16) / 255 for i in (0, 2, 4)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dim = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)
