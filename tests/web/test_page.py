"""The page as a browser shows it: headless Chromium, which has to be installed (Debian's `chromium`)."""

import contextlib
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import uvicorn
from playwright.sync_api import expect

from gp_jax.video import VideoReader
from gp_jax.web.choices import Offered
from gp_jax.web.server import Desk, make_app

pytestmark = pytest.mark.slow
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def address(tmp_path):
    desk = Desk(tmp_path / "kept", Offered.of(), most_bytes=2**19, most_frames=40)
    server = uvicorn.Server(uvicorn.Config(make_app(desk, hosts=("127.0.0.1",)), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@contextlib.contextmanager
def opened(browser, address, viewport=None, scheme="light"):
    """A page; an error or a warning in its console fails."""
    context = browser.new_context(viewport=viewport or WIDE, color_scheme=scheme)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    yield page
    context.close()
    # A request that was refused is no mistake of the page.
    assert [text for text in said if "Failed to load resource" not in text] == []


def choose(page, path):
    page.set_input_files("#file", path)
    page.wait_for_selector("#frame:not([hidden])")
    expect(page.locator("#size")).to_contain_text("left")


def ended(page, count=1):
    expect(page.locator(".task canvas")).to_have_count(count, timeout=120_000)


def test_upload_drag_run_cancel_run_again_and_reload_in_the_middle(browser, address, film, tmp_path):
    path = film("holiday.mp4", frames=12, sound="aac")
    with opened(browser, address) as page:
        choose(page, path)
        page.get_by_role("button", name="1:1").click()
        expect(page.locator("#size")).to_contain_text("52 x 52")
        page.get_by_role("button", name="16:9").click()
        expect(page.locator("#size")).to_contain_text("64 x 36")

        handle = page.get_by_role("slider", name="right border")
        before = int(handle.get_attribute("aria-valuenow"))
        box = handle.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2 + 40, box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()
        assert int(handle.get_attribute("aria-valuenow")) > before

        page.get_by_role("button", name="How long?").click()
        page.get_by_text(re.compile(r"would take about \d")).wait_for(timeout=120_000)
        page.get_by_role("button", name="Remove").click()
        page.wait_for_selector("#results[hidden]", state="attached")

        page.get_by_role("textbox", name="Seed").fill("5")
        page.select_option("#count", "2")
        page.get_by_role("button", name="Outpaint").click()
        expect(page.locator(".task")).to_have_count(2)
        page.get_by_role("button", name="Cancel").first.click()  # the newer one, which waits
        page.get_by_text("cancelled").wait_for()
        page.reload()
        expect(page.locator(".task")).to_have_count(2)
        ended(page)
        assert page.locator("#clip-told").inner_text().startswith("holiday.mp4")  # the clip is found again too

        size = re.match(r"\d+ x \d+", page.locator(".task h3").last.inner_text().partition(", ")[2].partition(", ")[2])
        assert size
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        download.value.save_as(tmp_path / "page.mp4")
        page.screenshot(path=tmp_path / "done.png", full_page=True)
        drawn = page.locator(".task canvas").evaluate(
            "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
            ".filter((_, i) => i % 4 === 3).every((alpha) => alpha === 255)"
        )
        assert drawn, "the player shows nothing"

        page.get_by_role("textbox", name="Seed").fill("6")
        page.select_option("#count", "1")
        page.select_option("#method", "mirror")
        page.get_by_role("button", name="Outpaint").click()
        ended(page, 2)

    made = VideoReader(tmp_path / "page.mp4")
    assert made.info.has_audio
    pads = f"{6},{made.info.width - 52 - 6},0,0"
    command = [sys.executable, "-m", "gp_jax", "outpaint", path, tmp_path / "command.mp4", "--pad", pads, "--seed", "5"]
    subprocess.run(command, check=True, capture_output=True)
    wanted = np.stack(list(VideoReader(tmp_path / "command.mp4")))
    np.testing.assert_array_equal(np.stack(list(made)), wanted)


def test_the_keyboard_alone_is_enough(browser, address, film):
    with opened(browser, address, NARROW, "dark") as page:
        choose(page, film())
        page.get_by_role("button", name="9:16").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#size")).to_contain_text("top")
        for name, out, back in (("left", "ArrowLeft", "ArrowRight"), ("top", "ArrowUp", "ArrowDown")):
            handle = page.get_by_role("slider", name=f"{name} border")
            handle.focus()
            page.keyboard.press("Home")
            for key, pads in ((out, "2"), (f"Shift+{out}", "22"), (back, "20"), ("PageDown", "0"), (back, "0")):
                page.keyboard.press(key)
                assert handle.get_attribute("aria-valuenow") == pads, (name, key)
        page.get_by_role("slider", name="left border").focus()
        page.keyboard.press("PageUp")
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
        assert {"file", "left border", "bottom border", "method", "count", "estimate"} <= reached
        page.locator("#method").focus()
        page.select_option("#method", "edge")
        page.get_by_role("button", name="Outpaint").press("Enter")
        ended(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_a_finger_drags_a_border(browser, address, film):
    context = browser.new_context(viewport=NARROW, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    choose(page, film())
    handle = page.get_by_role("slider", name="left border")
    handle.press("Home")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    client = context.new_cdp_session(page)
    for kind, at in (("touchStart", x), ("touchMove", x - 10), ("touchMove", x - 20), ("touchEnd", None)):
        points = [] if at is None else [{"x": at, "y": y}]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert int(handle.get_attribute("aria-valuenow")) > 0
    context.close()


def test_everything_that_can_be_used_has_a_name(browser, address, film):
    with opened(browser, address) as page:
        choose(page, film())
        page.select_option("#method", "mirror")
        page.get_by_role("button", name="Outpaint").click()
        ended(page)
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, select, input, [role=slider], a, img, progress, summary')]"
            ".filter((e) => !(e.labels?.length || e.getAttribute('aria-label') || e.alt || e.textContent.trim()))"
            ".map((e) => e.outerHTML)"
        )
        assert nameless == []


def test_wrong_and_large_files_and_a_second_tab(browser, address, film, tmp_path):
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "large.mp4").write_bytes(b"\0" * (2**19 + 1))
    with opened(browser, address) as page, opened(browser, address) as second:
        for name, says in (("text.mp4", "text.mp4 is no video"), ("large.mp4", "large.mp4 is larger than")):
            page.set_input_files("#file", tmp_path / name)
            expect(page.locator("#clip-wrong")).to_contain_text(says)
        choose(page, film())
        assert page.locator("#clip-wrong").inner_text() == ""
        for handle in ("left", "right"):
            page.get_by_role("slider", name=f"{handle} border").press("Home")
        page.select_option("#method", "mirror")
        page.get_by_role("button", name="Outpaint").click()
        expect(page.locator("#how-wrong")).to_contain_text("drag a border")
        page.get_by_role("slider", name="left border").press("PageUp")
        page.get_by_role("button", name="Outpaint").click()
        ended(page)
        ended(second)  # both see the same tasks
    with opened(browser, address) as page:
        ended(page)  # and so does who comes later
