"""The page in a real browser over a real pool: chatting, looking, and for whom it works (phone, keyboard, screen reader).

SHEAF_SCREENSHOTS=DIRECTORY writes the pictures of docs/ui.md there.
"""
from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

import page_checks
from devtools import Browser, Page
from sheaf_server import SheafServer

WEATHER = [{"name": "get_weather", "description": "Current weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
           {"name": "set_timer", "description": "Start a timer.",
            "parameters": {"type": "object", "properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]}}]
ANSWERED = "!document.getElementById('send').disabled && document.querySelectorAll('#log .assistant').length"
LAST = "[...document.querySelectorAll('#log .assistant')].at(-1)"


@pytest.fixture
def page(browser: Browser, pool: SheafServer, request: pytest.FixtureRequest) -> Iterator[Page]:
    page = opened(browser, pool, **getattr(request, "param", {}))
    yield page
    page.close()


def opened(browser: Browser, pool: SheafServer, view: str = "", **how: Any) -> Page:
    page = browser.page(**how)
    page.open(pool.http + "/" + view)
    page.until("document.getElementById('state').textContent === 'ready'", 20, "the router's state in the page")
    return page


def set_field(page: Page, name: str, value: str) -> None:
    page.eval(f"document.getElementById({json.dumps(name)}).value = {json.dumps(value)}")


def ask(page: Page, text: str, answers: int = 1) -> None:
    """By keyboard, and until the answer is there."""
    page.eval("document.getElementById('prompt').focus()")
    page.type(text)
    page.press("Enter")
    page.until(f"{ANSWERED} === {answers}", 60, f"an answer to {text}")


def picture(page: Page, name: str) -> None:
    folder = os.environ.get("SHEAF_SCREENSHOTS")
    if folder:
        page.picture(Path(folder) / f"ui-{name}.png")


def test_an_answer_streams_and_its_thoughts_are_folded(page: Page, pool: SheafServer) -> None:
    set_field(page, "temperature", "0")
    ask(page, "What is 47 + 85?")
    assert "132" in page.eval(f"{LAST}.querySelector('.text').textContent")
    assert page.eval(f"{LAST}.querySelector('details').open") is False
    assert "132" in page.eval(f"{LAST}.querySelector('details .thoughts').textContent")
    assert page.eval(f"/^\\d+ tokens · \\d+ of them thoughts · .*a second · first after /.test({LAST}.querySelector('.meta').textContent)")
    assert "132" in page.eval("document.getElementById('say').textContent"), "a screen reader hears the whole answer at its end"
    assert page.eval("document.activeElement.id") == "prompt"
    ask(page, "What does an expert worker do?", answers=2)
    whole = pool.chat(messages=[{"role": "user", "content": "What does an expert worker do?"}], temperature=0)
    assert whole["choices"][0]["message"]["content"], "the page's conversation differs, so only that there is one is compared"
    assert page.eval(f"{LAST}.querySelector('.text').textContent")
    assert page.problems == []
    picture(page, "chat-light")
    page.eval("document.getElementById('clear').click()")
    assert page.eval("document.querySelectorAll('#log .assistant, #log .user').length") == 0


def test_the_conversation_goes_along(page: Page) -> None:
    set_field(page, "temperature", "0")
    ask(page, "List three colours.")
    ask(page, "And the second one?", answers=2)
    first = page.eval("document.querySelector('#log .assistant .text').textContent").split("\n")
    second = next(line for line in first if line.startswith("2."))[3:].strip()
    assert second in page.eval(f"{LAST}.querySelector('.text').textContent")


def test_a_call_is_shown_and_its_result_goes_back(page: Page) -> None:
    set_field(page, "temperature", "0")
    set_field(page, "tools", json.dumps(WEATHER))
    ask(page, "What is the weather in Oslo?")
    assert page.eval(f"{LAST}.querySelector('.call h3').textContent") == "Calls get_weather"
    assert json.loads(page.eval(f"{LAST}.querySelector('.call pre').textContent")) == {"city": "Oslo"}
    assert page.eval("document.activeElement.labels[0].textContent") == "Result of get_weather"
    picture(page, "call")
    page.type('{"temperature_c": 4, "sky": "clear"}')
    page.press("Tab")
    page.press("Enter")
    page.until(f"{ANSWERED} === 2", 60, "an answer to the result")
    assert page.eval(f"{LAST}.querySelector('.text').textContent")
    assert page.problems == []


def test_thoughts_can_be_turned_off_and_sampling_arrives(page: Page) -> None:
    for name, value in {"temperature": "0", "top_p": "0.9", "max_tokens": "3", "seed": "7", "thinking": "false", "system": "Be brief."}.items():
        set_field(page, name, value)
    body = page.eval("requestOf(undefined)")
    assert body == {**body, "temperature": 0, "top_p": 0.9, "max_tokens": 3, "seed": 7, "enable_thinking": False, "stream": True, "model": "nano"}
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    ask(page, "What is 47 + 85?")
    assert page.eval(f"{LAST}.querySelector('details')") is None
    assert "3 tokens" in page.eval(f"{LAST}.querySelector('.meta').textContent")
    assert "cut off" in page.eval(f"{LAST}.querySelector('.meta').textContent")


def test_escape_stops_an_answer(page: Page, pool: SheafServer) -> None:
    set_field(page, "temperature", "10")  # any of 4,096 tokens: it hardly ever ends by itself
    page.eval("document.getElementById('prompt').focus()")
    page.type("Talk.")
    page.press("Enter")
    page.until(f"document.querySelectorAll('#log .assistant').length && {LAST}.textContent.length > 100", 60, "the beginning of an answer")
    assert page.eval("document.getElementById('stop').disabled") is False
    cancelled = pool.metric("sheaf_requests_total", outcome="cancelled")
    page.press("Escape")
    page.until(f"{ANSWERED} === 1", 10, "the end after Escape")
    assert "stopped" in page.eval(f"{LAST}.querySelector('.meta').textContent")
    page.until("fetch('/metrics').then(r => r.text()).then(t => Number(/outcome=\"cancelled\"[^\\n]* (\\d+)/.exec(t)?.[1] ?? 0) > %d)" % cancelled,
               20, "the router to count it as cancelled")
    assert page.problems == []


def test_what_is_wrong_is_said_and_nothing_is_lost(page: Page) -> None:
    set_field(page, "tools", "{")
    page.eval("document.getElementById('prompt').focus()")
    page.type("Hello")
    page.press("Enter")
    assert "JSON" in page.eval("document.getElementById('tools-error').textContent")
    assert page.eval("document.activeElement.id") == "tools"
    assert page.eval("document.getElementById('prompt').value") == "Hello", "the text is still there"
    set_field(page, "tools", "")
    set_field(page, "temperature", "-1")
    page.eval("document.getElementById('prompt').focus()")
    page.press("Enter")
    page.until(f"{ANSWERED} && document.querySelector('#log .error')", 20, "the server's refusal")
    assert "temperature" in page.eval("document.querySelector('#log .error').textContent")
    assert page.eval("document.getElementById('prompt').value") == "Hello"
    assert page.eval("conversation.length") == 0


def test_markup_is_text_wherever_it_comes_from(page: Page) -> None:
    evil = "<img src=x onerror=\"document.title='bad'\"><b>bold</b>"
    set_field(page, "max_tokens", "1")
    ask(page, evil)
    assert page.eval("document.querySelector('#log .user .text').textContent") == evil
    page.eval(f"fillText(document.querySelector('#log .assistant').appendChild(make('div')), 'a\\n```html\\n' + {json.dumps(evil)} + '\\n```\\nb')")
    assert page.eval("document.querySelector('#log .assistant pre').textContent") == evil
    assert page.eval("document.querySelectorAll('#log img, #log b').length") == 0
    # And the policy stops what would get in by another way.
    page.eval(f"document.getElementById('log').insertAdjacentHTML('beforeend', {json.dumps(evil)})")
    page.until("document.querySelectorAll('#log img').length === 1", 5, "the test's own image")
    assert page.eval("new Promise(done => setTimeout(() => done(document.title), 100))") == "Chat – Sheaf"
    assert any("Content Security Policy" in problem for problem in page.problems)


@pytest.mark.parametrize("page", [{"view": "#pool"}], indirect=True)
def test_the_pool_is_shown_and_asks_only_this_server(page: Page, pool: SheafServer) -> None:
    page.until("document.querySelectorAll('#rows tr').length === 3 && map", 20, "three workers and the map")
    pool.completion(prompt="A", max_tokens=64, temperature=1, ignore_eos=True)
    page.until("[...document.querySelectorAll('#rows tr')].every(row => row.cells[1].textContent === 'ready' && /^up/.test(row.cells[2].textContent))", 20, "ready and linked workers")
    page.until("now.figures.sheaf_generated_tokens_total >= 64 && recentMean('sheaf_inter_token_latency_seconds') !== null", 20, "figures of the request")
    assert page.eval("document.getElementById('t-workers').textContent") == "3 of 3"
    assert page.eval("document.getElementById('map-text').textContent") == "3 layers of 120 experts"
    assert "two: 360" in page.eval("document.getElementById('legend').textContent")
    assert page.eval("map.workers.length") == 3
    total = page.eval("map.workers.reduce((n, w) => n + w.bits.reduce((m, b) => m + b.toString(2).replaceAll('0', '').length, 0), 0)")
    assert total == 720, "360 experts, twice"
    assert {request.split("/", 3)[2] for request in page.requests if not request.startswith("data:")} == {pool.ready["http"]}
    assert page.problems == []


@pytest.mark.parametrize("page", [{"view": "#pool"}], indirect=True)
def test_the_map_is_read_by_keyboard(page: Page, pool: SheafServer) -> None:
    pool.completion(prompt="A", max_tokens=64, temperature=1, ignore_eos=True)
    page.until("map && map.levels.length", 30, "a measured load")
    page.eval("document.getElementById('map').focus()")
    page.press("ArrowRight")
    assert page.eval("document.getElementById('cell').textContent").startswith("Layer 1, expert 0: held by workers ")
    for _ in range(2):
        page.press("ArrowRight")
    page.press("ArrowDown")
    said = page.eval("document.getElementById('cell').textContent")
    assert said.startswith("Layer 2, expert 2: held by workers ") and said.endswith(" times the mean")
    page.press("ArrowUp")
    page.press("ArrowUp")
    assert page.eval("cursor.layer") == 0, "the edge holds"
    for colours in ("load", "w1"):
        page.eval(f"document.getElementById('colour').value = '{colours}', document.getElementById('colour').dispatchEvent(new Event('change'))")
        assert page.eval("document.getElementById('legend').textContent")


@pytest.mark.parametrize("page", [{"view": "#pool"}], indirect=True)
def test_a_lost_worker_is_told_and_comes_back(page: Page, pool: SheafServer) -> None:
    page.until("document.querySelectorAll('#rows tr').length === 3 && map", 20, "three workers and the map")
    victim = pool.ready["workers"][1]
    os.kill(victim["pid"], signal.SIGKILL)
    told = f"[...document.querySelectorAll('#events li')].some(one => /Worker 1 was lost \\({victim['pid']} on /.test(one.textContent))"
    page.until(told, 30, "the loss among the events")
    page.until("document.querySelector('#rows tr[data-id=\"1\"]')?.cells[1].textContent === 'ready' && /^up/.test(document.querySelector('#rows tr[data-id=\"1\"]').cells[2].textContent)", 60, "worker 1 again")
    page.until("/two: 360/.test(document.getElementById('legend').textContent)", 60, "two holders of every expert in the map")
    assert page.eval("document.getElementById('no-events').hidden") is True
    assert page.problems == []


def test_a_server_that_is_gone_is_told(browser: Browser, tmp_path: Path) -> None:
    from sheaf_server import ROOT
    with SheafServer(ROOT / "checkpoints/sheaf-nano-120", "--workers", "0", "--served-model-name", "nano") as server:
        page = opened(browser, server, view="#pool")
        assert page.eval("document.getElementById('here').hidden") is False, "no pool"
        assert page.eval("document.getElementById('workers').hidden") is True
    page.until("/no answer/.test(document.getElementById('state').textContent)", 20, "that nobody answers")
    page.close()


@pytest.mark.parametrize("page", [{"width": 360, "height": 740, "phone": True}], indirect=True)
def test_it_fits_a_phone(page: Page, pool: SheafServer) -> None:
    set_field(page, "temperature", "0")
    ask(page, "What is 47 + 85?")
    assert page.eval(page_checks.TOO_WIDE) == []
    assert page.eval(page_checks.TOO_SMALL) == []
    picture(page, "chat-phone")
    page.eval("document.getElementById('settings').open = true")
    assert page.eval(page_checks.TOO_WIDE) == []
    page.eval("document.getElementById('to-pool').click()")
    page.until("document.querySelectorAll('#rows tr').length === 3 && map && document.getElementById('map').height > 10", 20, "the pool")
    assert page.eval(page_checks.TOO_WIDE) == []
    assert page.eval(page_checks.TOO_SMALL) == []
    picture(page, "pool-phone")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read(browser: Browser, pool: SheafServer, dark: bool) -> None:
    page = opened(browser, pool, dark=dark, width=1280, height=1000)
    set_field(page, "temperature", "0")
    ask(page, "What is 47 + 85?")
    page.eval(f"{LAST}.querySelector('details').open = true")
    assert page.eval(page_checks.CONTRAST) == []
    if dark:
        picture(page, "chat-dark")
    page.eval("document.getElementById('to-pool').click()")
    page.until("document.querySelectorAll('#rows tr').length === 3 && map", 20, "the pool")
    assert page.eval(page_checks.CONTRAST) == []
    page.close()


def test_every_control_is_reached_by_tab_and_has_a_name(page: Page) -> None:
    chat = page_checks.focus_path(page)
    assert chat[0] == "skip"
    assert {"to-chat", "to-pool", "temperature", "top_p", "max_tokens", "seed", "thinking", "system", "tools", "log", "prompt", "send", "clear"} <= set(chat), chat
    assert page_checks.unnamed(page) == []
    page.eval("document.getElementById('to-pool').focus()")
    page.press("Enter")
    page.until("map", 20, "the map")
    pool = page_checks.focus_path(page)
    assert {"colour", "map", "events"} <= set(pool) and "prompt" not in pool, pool
    assert page_checks.unnamed(page) == []
    page.eval("document.getElementById('skip').focus()")
    page.press("Enter")
    assert page.eval("document.activeElement.id") == "main"
    assert page.eval("document.getElementById('pool').hidden") is False, "the skip link stays in the view"


def test_nothing_moves_for_who_does_not_want_it(browser: Browser, pool: SheafServer) -> None:
    durations = {}
    for still in (False, True):
        page = opened(browser, pool, view="#pool", still=still)
        durations[still] = page.eval("getComputedStyle(document.getElementById('t-kv-bar')).transitionDuration")
        page.close()
    assert durations == {False: "0.3s", True: "0s"}


@pytest.mark.parametrize("page", [{"view": "#pool"}], indirect=True)
def test_a_hidden_page_asks_seldom(page: Page) -> None:
    asked = "performance.getEntriesByType('resource').filter(one => one.name.endsWith('/sheaf/v1/pool')).length"
    before = page.eval(asked)
    page.until(f"{asked} >= {before + 3}", 10, "three more questions while it is seen")
    page.eval("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    page.eval("poll()")
    seen = page.eval(asked)
    # Seen, it would have asked three times in this time.
    assert page.eval(f"new Promise(done => setTimeout(() => done({asked}), 3000))") - seen <= 1
    page.eval("Object.defineProperty(document, 'hidden', {get: () => false}), document.dispatchEvent(new Event('visibilitychange'))")
    page.until(f"{asked} > {seen}", 2, "a question as soon as it is seen again")


@pytest.mark.skipif("SHEAF_SCREENSHOTS" not in os.environ, reason="makes pictures alone: SHEAF_SCREENSHOTS=DIRECTORY")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_pool_under_load_for_the_pictures(browser: Browser, pool: SheafServer, dark: bool) -> None:
    page = opened(browser, pool, view="#pool", dark=dark, width=1280, height=900, still=True)  # no bar on its way
    page.until("document.querySelectorAll('#rows tr').length === 3 && map", 20, "three workers and the map")
    process = page.eval("document.querySelector('#rows tr[data-id=\"2\"]').textContent.match(/pid (\\d+) on/)[1]")
    os.kill(int(process), signal.SIGKILL)
    ending = threading.Event()

    def load() -> None:
        while not ending.is_set():
            pool.completion(prompt="What is an expert worker?", max_tokens=120, temperature=1, ignore_eos=True)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    if dark:
        page.eval("document.getElementById('colour').value = 'load', document.getElementById('colour').dispatchEvent(new Event('change'))")
    page.until("document.querySelectorAll('#events li').length >= 2 && map.levels.length && speeds.length >= 15", 60, "a story to show")
    picture(page, "pool-dark" if dark else "pool-light")
    ending.set()
    for thread in threads:
        thread.join()
    page.close()
