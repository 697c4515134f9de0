"""What can be said of the page without a browser: well-formed, labelled, readable, and nothing in it reaches outside."""
from __future__ import annotations

import re

import pytest

from page_source import PAGE, PageSource, colours, contrast


@pytest.fixture(scope="module")
def page() -> PageSource:
    return PageSource(PAGE.read_text(encoding="utf-8"))


def test_elements_are_closed_and_ids_unique(page: PageSource) -> None:
    assert page.unclosed == []
    ids = page.ids()
    assert len(ids) == len(set(ids)), sorted(one for one in set(ids) if ids.count(one) > 1)


def test_it_says_language_title_and_width(page: PageSource) -> None:
    assert page.only("html").attributes["lang"] == "en"
    assert page.only("title").text
    metas = {element.attributes.get("name"): element.attributes.get("content", "") for element in page.elements if element.tag == "meta"}
    assert "width=device-width" in metas["viewport"]
    assert "user-scalable" not in metas["viewport"] and "maximum-scale" not in metas["viewport"]


def test_nothing_reaches_outside(page: PageSource) -> None:
    addresses = re.findall(r"\bhttps?:[^\s'\"<>)]*|(?<=['\"(=])//[^\s'\"]+", page.text)
    assert [one for one in addresses if one != "http://www.w3.org/2000/svg"] == []
    for element in page.elements:
        for name in ("src", "href", "action", "srcset"):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:image/")), f"<{element.tag} {name}={value}>"
    assert not re.search(r"@import|url\(", page.style)
    assert set(re.findall(r"fetch\(([^,)]*)", page.script)) == {"'/v1/chat/completions'", "'/sheaf/v1/pool'", "'/sheaf/v1/pool/experts'"}


def test_texts_never_become_markup(page: PageSource) -> None:
    for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "setAttribute('style'",
                 "setAttribute('on", "localStorage", "sessionStorage", "indexedDB", "document.cookie"):
        assert name not in page.script, name
    for element in page.elements:
        bad = [name for name in element.attributes if name.startswith("on") or name == "style"]
        assert not bad, f"<{element.tag}> has {bad}: the policy would not let them work"


def test_the_policy_finds_script_and_style(page: PageSource) -> None:
    """Their hashes are of what stands between the bare tags (page_route.cc)."""
    for tag in ("script", "style"):
        assert page.only(tag).attributes == {}
        assert page.text.count(f"<{tag}>") == 1 and page.text.count(f"</{tag}>") == 1


def test_every_control_has_a_name(page: PageSource) -> None:
    labelled = {element.attributes.get("for") for element in page.elements if element.tag == "label"}
    for element in page.elements:
        if element.tag in ("input", "select", "textarea"):
            assert element.attributes.get("id") in labelled, element
        elif element.tag in ("button", "a", "summary", "label", "th"):
            assert element.text.strip(), element
        elif "tabindex" in element.attributes and element.tag not in ("main", "section"):
            assert "aria-label" in element.attributes or "aria-labelledby" in element.attributes, element


def test_what_is_referred_to_is_there(page: PageSource) -> None:
    ids = set(page.ids())
    for element in page.elements:
        for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
            missing = set(element.attributes.get(name, "").split()) - ids
            assert not missing, f"<{element.tag}> {name}: {missing}"
        link = element.attributes.get("href", "")
        assert not link.startswith("#") or link[1:] in ids, link
    used = set(re.findall(r"\$\('([^']+)'\)", page.script)) - {"to-"}
    assert used <= ids, used - ids


def test_landmarks_and_headings(page: PageSource) -> None:
    for tag in ("header", "nav", "main", "h1"):
        page.only(tag)
    assert all("aria-labelledby" in element.attributes for element in page.elements if element.tag == "section")
    skip = next(element for element in page.elements if element.tag == "a")
    assert skip.attributes["href"] == "#main", "the first link leads past the header"
    assert ":focus-visible" in page.style and "outline: none" not in page.style and "outline: 0" not in page.style


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read(page: PageSource, scheme: str) -> None:
    c = colours(page.style)[scheme]
    texts = [(ink, ground) for ink in ("ink", "soft", "accent", "good", "warn", "bad") for ground in ("bg", "panel")]
    for ink, ground in [*texts, ("on-accent", "accent")]:
        assert contrast(c[ink], c[ground]) >= 4.5, f"{ink} on {ground}: {contrast(c[ink], c[ground]):.2f}"
    # Borders of fields, bars, and what a cell of the map says.
    for line, ground in [("edge", "bg"), ("edge", "panel"), ("accent", "panel"), ("cursor", "one"), ("none", "one"), ("more", "one"), ("hot", "cold")]:
        assert contrast(c[line], c[ground]) >= 3, f"{line} on {ground}: {contrast(c[line], c[ground]):.2f}"


def test_motion_only_where_it_is_wanted(page: PageSource) -> None:
    outside = re.sub(r"@media \(prefers-reduced-motion: no-preference\) {[^{}]*{[^{}]*}\s*}", "", page.style)
    assert "transition" not in outside and "animation" not in outside
    assert "behavior: 'smooth'" not in page.script and "scroll-behavior" not in outside
