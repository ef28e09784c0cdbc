"""The report: one file, nothing outside it, every clip with its pictures."""

import base64
import io
import re
from html.parser import HTMLParser

import av
import numpy as np
import pytest

from gp_jax.evaluation.protocols import PROTOCOLS
from gp_jax.evaluation.report import page, write_report
from gp_jax.evaluation.report.numbers import Numbers
from gp_jax.evaluation.report.pieces import GREY, source
from gp_jax.evaluation.report.plots import line_plot, ticks
from gp_jax.evaluation.report.videos import mosaic, tile_size
from gp_jax.evaluation.results import write_lines
from gp_jax.files import write_json
from tests.evaluation import small_results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return small_results.write(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def text(results):
    names = [path.name for path in write_report(results)]
    assert names == ["summary.md", "summary.csv", "report.html"]
    return (results.folder / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Checks that tags close in the order in which they open, and keeps them."""

    VOID = ("meta", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_refers_to_nothing_outside(text):
    tags = Tags(text).tags
    for _, attributes in tags:
        for name in ("src", "href", "data-src"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"https?://|@import|url\(", text)
    anchors = {attributes.get("id") for _, attributes in tags}
    links = {attributes["href"][1:] for tag, attributes in tags if tag == "a"}
    assert {link.replace("%26", "&") for link in links} <= anchors


def test_the_page_says_nothing_of_the_machine_that_made_it(text):
    """small_results puts the data to /clips, and a method to /outputs/motia."""
    assert "2 clips of clips (folder)" in text and "motia" in text
    assert not re.search(r"/clips|/outputs", text)


def test_of_a_metric_that_compares_sets_alone_what_was_measured_is_shown_all_the_same(tmp_path):
    results = small_results.write(tmp_path)
    for clip in small_results.CLIPS:
        write_json(results.part("scores", "edge", "0.25", clip), {"stamp": "", "part": {"whole": {}}})
    for name in ("results.jsonl", "timing.jsonl"):  # a system's outputs have no timing either
        write_lines(tmp_path / name, [])
    assert Numbers(results).is_measured("edge", ("0.25", "bear"))
    assert not Numbers(results).is_measured("globalpaint", ("0.25", "bear"))
    assert "Cost" not in page.render(results)


def test_every_clip_is_there_worst_first(text, results):
    cards = [attributes["id"] for tag, attributes in Tags(text).tags if tag == "article"]
    assert cards == ["0.25/a&b", "0.66/a&b", "0.25/bear", "0.66/bear"]  # by globalpaint's number
    assert [f"{case}/{clip}" for case, clip in Numbers(results).worst_first("lpips", "edge")] == cards[::-1]


def test_a_full_page_leaves_clips_of_the_middle_out_and_says_so(results, monkeypatch):
    full = page.render(results)
    size = len(re.search(r"<article.*?</article>", full, re.S)[0])
    monkeypatch.setattr(page, "BUDGET", int(2.5 * size))
    text = page.render(results)
    assert re.findall(r'<article class="clip" id="(.*?)"', text) == ["0.25/a&amp;b", "0.66/bear"]
    assert "2 of 4, from the middle, are left out" in text


def test_tiles_of_a_video_are_the_clips_in_order():
    rng = np.random.default_rng(0)
    tiles = [np.full((4, 32, 48, 3), rng.integers(30, 220, 3), np.uint8) for _ in range(5)]
    video = mosaic(tiles)
    assert (video.columns, video.width, video.height) == (3, 48, 32)
    data = base64.b64decode(video.uri.removeprefix("data:video/mp4;base64,"))
    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4
    for index, tile in enumerate(tiles):
        row, column = divmod(index, 3)
        shown = frames[-1][row * 32 + 8 : row * 32 + 24, column * 48 + 8 : column * 48 + 40]
        np.testing.assert_allclose(shown.mean((0, 1)), tile[0, 0, 0], atol=4)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (720, 1280), (101, 33), (64, 64)])
def test_tiles_keep_the_shape_and_have_even_sides(height, width):
    tile = tile_size(height, width)
    assert tile[0] % 2 == tile[1] % 2 == 0
    np.testing.assert_allclose(tile[0] / tile[1], height / width, rtol=0.05)


def test_the_source_is_grey_where_it_is_unknown():
    canvas = PROTOCOLS["m3ddm-256"].cases["0.25"]
    shown = source(np.zeros((1, 64, 64, 3), np.uint8), canvas)
    np.testing.assert_array_equal(np.unique(shown[0, 0, :, 0], return_counts=True), [[0, GREY], [48, 16]])


def test_a_plot_breaks_where_there_is_no_value():
    svg = line_plot("x", {"a": [1.0, 2.0, None, 2.0, 1.0], "b<": [None] * 5})
    assert svg.count("M") == 2 and "b&lt;" in svg
    assert line_plot("x", {"a": [None]}) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 12), (20.001, 20.002), (5, 5), (0, 0), (1e3, 9e5)])
def test_ticks_enclose_what_they_are_for(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low and high <= marks[-1] and 2 <= len(marks) <= 7
    np.testing.assert_allclose(np.diff(marks), marks[1] - marks[0], rtol=1e-6)


@pytest.mark.slow
def test_a_browser_shows_two_methods_in_one_place_and_the_numbers_of_a_frame(text, results, browser):
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((results.folder / "report.html").resolve().as_uri())
    card = page.locator("article").first
    card.locator("summary").click()
    card.scroll_into_view_if_needed()
    card.get_by_role("button").click()  # pauses
    card.get_by_role("slider", name="frame").fill("2")
    page.wait_for_timeout(1500)

    def greys():
        return card.locator(".two canvas").evaluate(
            "canvas => [0.1, 0.9].map((x) => canvas.getContext('2d')"
            ".getImageData(x * canvas.width, canvas.height / 2, 1, 1).data[0])"
        )

    assert np.allclose(greys(), (200, 50), atol=4)  # the truth, and the first method
    card.get_by_role("combobox", name="right").select_option("globalpaint")
    assert np.allclose(greys(), (200, 100), atol=4)
    card.get_by_role("slider", name="line between the two").fill("100")
    assert np.allclose(greys(), (200, 200), atol=4)
    now = card.locator(".now").all_inner_texts()
    assert now[0] == now[-1] == "" and all(line.startswith("PSNR") and "LPIPS" in line for line in now[1:-1])
    assert said == []
    page.close()
