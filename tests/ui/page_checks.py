"""What is asked of the page wherever it is shown, as expressions for the browser."""
from __future__ import annotations

from devtools import Page

# The texts whose colour has less than 4.5:1 of what is behind them, with both colours and the ratio.
CONTRAST = r"""
(() => {
  const parts = colour => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => { const f = c => { c /= 255; return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const bad = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest('script, style, .unseen, .skip') || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    let ground = element;
    while (ground && (parts(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
    const [x, y] = [luminance(parts(style.color)), luminance(ground ? parts(getComputedStyle(ground).backgroundColor) : [255, 255, 255])].sort((a, b) => b - a);
    seen++;
    const ratio = (x + .05) / (y + .05);
    if (ratio < 4.5 || Number(style.opacity) < 1) bad.push(walker.currentNode.data.trim().slice(0, 40) + ' ' + style.color + ' ' + ratio.toFixed(2));
  }
  if (seen < 10) bad.push('only ' + seen + ' texts were seen');
  return bad;
})()
"""

# What stands beyond the right edge without a box around it that scrolls.
TOO_WIDE = r"""
(() => {
  const wide = document.documentElement.scrollWidth > innerWidth ? ['the page: ' + document.documentElement.scrollWidth] : [];
  for (const element of document.body.querySelectorAll('*')) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > innerWidth + 1 && !element.closest('.wide-table, pre, .unseen, .skip')) wide.push(element.tagName + '#' + element.id + ' ' + box.right);
  }
  return wide;
})()
"""

# Controls that a finger would miss: lower or narrower than 24 CSS pixels.
TOO_SMALL = r"""
[...document.querySelectorAll('button, input, select, textarea, nav a, summary')].filter(e => e.getClientRects().length)
  .map(e => [e.id || e.textContent, e.getBoundingClientRect()]).filter(([, r]) => r.width < 24 || r.height < 24).map(([name, r]) => name + ' ' + r.width + 'x' + r.height)
"""


def focus_path(page: Page, most: int = 60) -> list[str]:
    """Ids (or tags) that Tab goes through from the page's beginning until it comes back; fails where the focus cannot be seen."""
    page.eval("document.activeElement.blur(), getSelection().removeAllRanges(), document.body.focus()")
    path: list[str] = []
    for _ in range(most):
        page.press("Tab")
        name, outline = page.eval("(e => [e.id || e.tagName, getComputedStyle(e).outlineStyle + ' ' + getComputedStyle(e).outlineWidth])(document.activeElement)")
        if name == "BODY" or (path and name == path[0]):
            return path
        assert outline not in ("none 0px", "none 3px"), f"the focus on {name} cannot be seen: {outline}"
        path.append(name)
    raise AssertionError(f"Tab never comes back: {path}")


def unnamed(page: Page) -> list[str]:
    """What can have the focus and has no name for a screen reader."""
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    bad = []
    for node in nodes:
        focusable = any(p["name"] == "focusable" and p["value"].get("value") for p in node.get("properties", []))
        role = node.get("role", {}).get("value")
        if focusable and not node.get("ignored") and role not in ("RootWebArea", "main", "generic") and not node.get("name", {}).get("value"):
            bad.append(f"{role} {node.get('backendDOMNodeId')}")
    assert len(nodes) > 10
    return bad
