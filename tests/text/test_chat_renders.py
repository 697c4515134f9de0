"""chat_renders.json is what chat_renders.py makes of today's templates."""
from __future__ import annotations

from pathlib import Path

import chat_renders

COMMITTED = Path(__file__).with_name("chat_renders.json")


def test_the_file_is_what_jinja2_gives() -> None:
    assert COMMITTED.read_text() == chat_renders.file_text(), "run tests/text/chat_renders.py --out tests/text/chat_renders.json"


def test_the_conversations_differ_where_their_names_say_so() -> None:
    texts = {(case["template"], case["case"]): case["text"] for case in chat_renders.renders()}
    for template in chat_renders.TEMPLATES:
        assert texts[template, "thinking off"] != texts[template, "thinking on"]
        assert "ebb since noon" not in texts[template, "earlier thoughts"]
        assert "9.8" in texts[template, "two calls at once"]
