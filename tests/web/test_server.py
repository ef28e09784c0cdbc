"""What the server answers: to the page, to whoever is wrong, and to whoever may not ask."""

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from gp_jax import load_method
from gp_jax.geometry import Canvas
from gp_jax.methods.method import Estimate
from gp_jax.video import VideoReader, VideoWriter
from gp_jax.web import tasks as tasks_module
from gp_jax.web.clips import KEPT
from gp_jax.web.server import make_app
from gp_jax.web.tasks import MOST_WAITING

PADS = {"left": 6, "right": 4, "top": 0, "bottom": 2}


def upload(client, path, name="clip.mp4"):
    return client.post(f"/api/clips?name={name}", content=path.read_bytes())


def wish(clip, changes=()):
    return {"clip": clip["id"], "pads": PADS, "method": "mirror", "options": {}, **dict(changes)}


def until(client, id, states=("done", "failed", "cancelled")):
    deadline = time.monotonic() + 60
    while (task := {task["id"]: task for task in client.get("/api/tasks").json()}[id])["state"] not in states:
        assert time.monotonic() < deadline, task
        time.sleep(0.02)
    return task


@pytest.fixture
def held(monkeypatch):
    """A method that waits at each frame until it may go on."""
    gate = threading.Event()

    class Held:
        def prepare(self, clip, canvas, options, work):
            self.job, self.clip, self.estimate = load_method("mirror").prepare(clip, canvas, options), clip, Estimate()
            return self

        def frames(self, progress):
            for number, frame in enumerate(self.job.frames()):
                while not gate.wait(0.02):
                    progress(number, len(self.clip), "waiting")
                yield frame

    monkeypatch.setattr(tasks_module, "_method", lambda choice: Held())
    yield gate
    gate.set()


def test_a_clip_becomes_what_the_method_makes_of_it(client, film, tmp_path):
    path = film(sound="aac")
    clip = upload(client, path).json()
    assert (clip["width"], clip["height"], clip["frames"], clip["name"]) == (52, 36, 8, "clip.mp4")
    first = client.get(f"/api/clips/{clip['id']}/picture")
    assert Image.open(io.BytesIO(first.content)).size == (52, 36)
    (task,) = client.post("/api/tasks", json=wish(clip)).json()
    ended = until(client, task["id"])
    assert ended["state"] == "done" and ended["made"] == 8
    assert ended["canvas"] == {
        "width": 62, "height": 38, "left": 6, "top": 0, "source_width": 52, "source_height": 36,
    }  # fmt: skip
    answer = client.get(f"/api/tasks/{task['id']}/result?download=1")
    assert 'filename="clip-62x38.mp4"' in answer.headers["content-disposition"]
    (tmp_path / "made.mp4").write_bytes(answer.content)
    reader = VideoReader(path)
    canvas = Canvas.from_pads(36, 52, 6, 4, 0, 2)
    with VideoWriter(tmp_path / "wanted.mp4", reader.info, audio_from=reader) as writer:
        for frame in load_method("mirror")(np.stack(list(reader)), canvas):
            writer.write(frame)
    made, wanted = (VideoReader(tmp_path / name) for name in ("made.mp4", "wanted.mp4"))
    # x264 does not always make the same of the same small planes.
    assert abs(np.stack(list(made)).astype(int) - np.stack(list(wanted))).mean() < 3
    assert made.info.has_audio


def test_the_frame_of_a_ratio_is_that_of_the_command(client, film):
    clip = upload(client, film()).json()
    canvas = Canvas.from_aspect(36, 52, 21 / 9)
    pads = client.get(f"/api/clips/{clip['id']}/frame", params={"aspect": "21:9"}).json()
    assert (pads["left"], pads["right"], pads["top"]) == (canvas.pads[1][0], canvas.pads[1][1], 0)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"hello, I am a text", "is no video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "is no video"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "is no video"),
        (b"", "is no video"),
        (b"\0\0\0\x18ftypmp42" + 200 * b"\0", "not a video that can be read"),
    ],
)
def test_what_is_no_video_is_told_by_its_name_and_leaves_nothing(client, desk, content, says):
    answer = client.post("/api/clips?name=../../holiday.mp4", content=content)
    assert answer.status_code == 400
    sentence = answer.json()["error"]
    assert "holiday.mp4" in sentence and says in sentence and str(desk.clips.folder) not in sentence
    assert not desk.clips.folder.is_dir() or not list(desk.clips.folder.iterdir())


def test_clips_are_bounded(client, desk, film):
    assert upload(client, film(frames=41)).json()["error"].startswith("clip.mp4 has 41 frames, and 40 are the most")

    large = b"\0" * (2**19 + 1)
    for content in (large, iter([large[: 2**18], large[2**18 :]])):  # whose length is said, and whose is not
        answer = client.post("/api/clips?name=large.mp4", content=content)
        assert answer.status_code == 413 and "large.mp4 is larger than" in answer.json()["error"]
    assert not list(desk.clips.folder.iterdir())


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"pads": dict.fromkeys(PADS, 0)}, "drag a border"),
        ({"pads": PADS | {"left": -1}}, "whole numbers of pixels"),
        ({"pads": PADS | {"left": 9000}}, "more than 4096"),
        ({"pads": None}, "whole numbers of pixels"),
        ({"method": "../mirror"}, "choose a method"),
        ({"method": "folder:/etc"}, "choose a method"),
        ({"method": []}, "choose a method"),
        ({"method": "globalpaint", "checkpoint": "/etc"}, "needs a checkpoint"),
        ({"method": "globalpaint", "checkpoint": "tiny", "options": {"steps": "0"}}, "whole number from 1"),
        ({"method": "globalpaint", "checkpoint": "tiny", "options": {"seed": "-1"}}, "a seed is"),
        ({"method": "globalpaint", "checkpoint": "tiny", "options": {"guidance": "nan"}}, "guidance is a number"),
        ({"method": "globalpaint", "checkpoint": "tiny", "options": {"guidance": 10**400}}, "guidance is a number"),
        ({"method": "globalpaint", "checkpoint": "tiny", "options": {"plan": "none"}}, "plan is one of"),
        ({"method": "globalpaint", "checkpoint": "tiny", "loras": {"/etc/passwd": 1}}, "LoRAs of the list"),
        ({"method": "globalpaint", "checkpoint": "tiny", "seeds": [1, 2, 3, 4, 5]}, "4 seeds"),
        ({"options": {"seed": 1}}, "mirror has no option seed"),
        ({"method": "globalpaint", "checkpoint": "tiny", "options": {"save_lora": "/tmp/x"}}, "no option save_lora"),
        ({"method": "globalpaint", "checkpoint": "tiny", "options": {"adapt": "-1"}}, "whole number from 0"),
        ({"method": "dehan", "options": {"completion": "globalpaint:/etc"}}, "no option completion"),
        ({"clip": "../../etc"}, "choose it again"),
    ],
)
def test_a_wish_that_cannot_be_meant_is_one_sentence(client, film, changes, says):
    clip = upload(client, film()).json()
    answer = client.post("/api/tasks", json=wish(clip, changes))
    assert answer.status_code in (400, 404) and says in answer.json()["error"], answer.text
    assert client.get("/api/tasks").json() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 60_000], ids=["empty", "a list", "deep"])
def test_what_no_page_asks_for_is_one_sentence(client, body):
    answer = client.post("/api/tasks", content=body)
    assert answer.status_code == 400 and "nothing that a page asks for" in answer.json()["error"]


def test_tasks_wait_for_their_turn_and_can_be_cancelled(client, film, held):
    clip = upload(client, film()).json()
    ids = [client.post("/api/tasks", json=wish(clip)).json()[0]["id"] for _ in range(3)]
    until(client, ids[0], ("running",))
    states = [task["state"] for task in client.get("/api/tasks").json()]
    assert states == ["running", "waiting", "waiting"]
    assert client.delete(f"/api/tasks/{ids[0]}").status_code == 400  # not over
    for id in ids[:2]:
        assert client.post(f"/api/tasks/{id}/cancel").status_code == 204
    assert [until(client, id)["state"] for id in ids[:2]] == ["cancelled", "cancelled"]
    assert client.get(f"/api/tasks/{ids[0]}/result").status_code == 404
    held.set()
    assert until(client, ids[2])["state"] == "done"
    assert client.delete(f"/api/tasks/{ids[2]}").status_code == 204
    assert client.get(f"/api/tasks/{ids[2]}/result").status_code == 404


def test_a_task_too_many_is_refused_and_leaves_nothing(client, desk, film, held):
    clip = upload(client, film()).json()
    (first,) = client.post("/api/tasks", json=wish(clip)).json()
    until(client, first["id"], ("running",))
    for _ in range(MOST_WAITING):
        assert client.post("/api/tasks", json=wish(clip)).status_code == 201
    refused = client.post("/api/tasks", json=wish(clip))
    assert refused.status_code == 400 and "20 tasks wait already" in refused.json()["error"]
    assert len(list(desk.tasks.folder.iterdir())) == len(client.get("/api/tasks").json()) == 1 + MOST_WAITING


def test_damage_of_a_clip_is_told_by_its_name(client, film):
    path = film("clip.mkv", frames=30)
    path.write_bytes(path.read_bytes()[:-2000])
    (note,) = upload(client, path, "../holiday.mkv").json()["notes"]
    assert note.startswith("holiday.mkv is truncated or damaged")


def test_a_mistake_of_the_program_does_not_end_the_queue(client, film, monkeypatch):
    def broken(choice):
        raise RuntimeError("secret/path")

    told = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: told.append(arguments.exc_type))
    clip = upload(client, film()).json()
    with monkeypatch.context() as patch:
        patch.setattr(tasks_module, "_method", broken)
        (task,) = client.post("/api/tasks", json=wish(clip)).json()
        failed = until(client, task["id"])
    assert failed["state"] == "failed" and "secret" not in failed["label"] and told == [RuntimeError]
    (task,) = client.post("/api/tasks", json=wish(clip)).json()
    assert until(client, task["id"])["state"] == "done"


def test_what_nobody_uses_is_removed_after_a_while(client, desk, film):
    clip = upload(client, film()).json()
    (task,) = client.post("/api/tasks", json=wish(clip)).json()
    until(client, task["id"])
    later = time.monotonic() + KEPT + 1
    desk.clips.sweep(desk.tasks.clips_in_use, later)
    assert client.get(f"/api/clips/{clip['id']}").status_code == 200
    desk.tasks.sweep(later)
    desk.clips.sweep(desk.tasks.clips_in_use, later + KEPT)
    assert client.get(f"/api/clips/{clip['id']}").status_code == 404
    assert not list(desk.clips.folder.iterdir()) and not list(desk.tasks.folder.iterdir())


@pytest.mark.parametrize(
    "path", ["/files/server.py", "/files/..%2Fserver.py", "/files/../tasks.py", "/etc/passwd", "/api/x"]
)
def test_nothing_else_is_there(client, path):
    assert client.get(path).status_code == 404


def test_pages_of_other_sites_may_not_ask(client):
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"host": "["},
        {"host": "evil.example"},
        {"sec-fetch-site": "cross-site"},
    ):
        assert client.get("/api/tasks", headers=headers).status_code == 403, headers
    assert client.get("/api/tasks", headers={"origin": "http://testserver"}).status_code == 200
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200  # a link that was followed
    assert "default-src 'self'" in client.get("/").headers["content-security-policy"]


def test_other_machines_need_the_token(desk):
    client = TestClient(make_app(desk, token="right"))
    for path in ("/", "/api/tasks", "/?token=wrong", "/files/app.js"):
        assert client.get(path).status_code == 403
    answer = client.get("/?token=right", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert client.get("/api/tasks").status_code == 200  # the cookie
