"""Addresses, and what answers there; who may ask is told by guard.py.

    GET  /                       the page                   GET  /files/NAME            what it is made of
    GET  /api/offered            what can be chosen         GET  /api/tasks             all tasks
    POST /api/clips?name=...     upload; the body is it     POST /api/tasks             a task, or one for each seed
    POST /api/samples/NAME       a clip of the package      POST /api/tasks/ID/cancel
    GET  /api/clips/ID           what is known of it
    GET  /api/clips/ID/picture   the first frame            GET  /api/tasks/ID/picture  the newest frame that was made
    GET  /api/clips/ID/frame     pads for ?aspect=16:9      GET  /api/tasks/ID/result   the video; ?download=1 to keep
                                                            DELETE /api/tasks/ID

What cannot be done is answered by 400 and one sentence; what is not there by 404; too much by 413.
"""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

import gp_jax
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.web.choices import ASPECTS, MOST_SEEDS, Choice, Offered
from gp_jax.web.clips import Clips, shown
from gp_jax.web.guard import Guard
from gp_jax.web.tasks import State, Tasks

PACKAGE = Path(gp_jax.__file__).parent
FILES = {
    "page.html": PACKAGE / "web/files/page.html",
    "style.css": PACKAGE / "web/files/style.css",
    "icon.svg": PACKAGE / "web/files/icon.svg",
    "app.js": PACKAGE / "web/files/app.js",
    "editor.js": PACKAGE / "web/files/editor.js",
    "player.js": PACKAGE / "web/files/player.js",
    "compare.js": PACKAGE / "evaluation/report/files/compare.js",  # the report of an evaluation has the same
}
MOST_JSON = 2**16  # bytes


class Desk:
    """What the server holds.

    Args:
      folder: for clips and results; removed by whoever made it.
      offered: checkpoints and LoRAs.
      most_bytes, most_frames: of an uploaded clip.
    """

    def __init__(self, folder: Path, offered: Offered, *, most_bytes: int, most_frames: int):
        self.offered = offered
        self.clips = Clips(folder / "clips", most_bytes, most_frames)
        self.tasks = Tasks(folder / "tasks")

    def sweep(self) -> None:
        """Removes what is old."""
        self.tasks.sweep()
        self.clips.sweep(self.tasks.clips_in_use)

    def close(self) -> None:
        """Ends all work."""
        self.tasks.close()


def make_app(desk: Desk, *, hosts: tuple[str, ...] = (), token: str = "") -> Starlette:
    """The application; see `Guard` for the hosts and the token."""

    async def page(request: Request) -> Response:
        return FileResponse(FILES["page.html"])

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        return FileResponse(FILES[name]) if name in FILES else _told("there is no such file", 404)

    async def offered(request: Request) -> Response:
        limits = {"most_bytes": desk.clips.most_bytes, "most_frames": desk.clips.most_frames}
        return JSONResponse(desk.offered.to_json() | limits)

    async def upload(request: Request) -> Response:
        name = request.query_params.get("name", "clip")
        most = desk.clips.most_bytes
        too_large = f"{shown(name)} is larger than {most // 2**20} MiB, which is the most here"
        if int(request.headers.get("content-length") or 0) > most:
            return _told(too_large, 413)
        desk.sweep()
        path, size = desk.clips.begin(name), 0
        try:
            with path.open("wb") as target:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        return _told(too_large, 413)
                    await run_in_threadpool(target.write, chunk)
            clip = await run_in_threadpool(desk.clips.finish, path, name)
        except ClientDisconnect:
            return Response(status_code=499)
        except OSError as error:
            return _told(f"{shown(name)} cannot be kept: {error.strerror}", 507)
        finally:
            if path.parent.name not in desk.clips:
                shutil.rmtree(path.parent, ignore_errors=True)
        return JSONResponse(clip.to_json(), 201)

    async def sample(request: Request) -> Response:
        clip = await run_in_threadpool(desk.clips.sample, request.path_params["name"])
        return JSONResponse(clip.to_json(), 201)

    async def clip(request: Request) -> Response:
        return JSONResponse(desk.clips[request.path_params["id"]].to_json())

    async def clip_picture(request: Request) -> Response:
        return Response(desk.clips[request.path_params["id"]].picture, media_type="image/jpeg")

    async def frame(request: Request) -> Response:
        info, aspect = desk.clips[request.path_params["id"]].reader.info, request.query_params.get("aspect")
        if aspect not in ASPECTS:
            raise UserError(f"the ratios are {', '.join(ASPECTS)}")
        width, height = map(int, aspect.split(":"))
        (top, bottom), (left, right) = Canvas.from_aspect(info.height, info.width, width / height).pads
        return JSONResponse({"left": left, "right": right, "top": top, "bottom": bottom})

    async def tasks(request: Request) -> Response:
        desk.sweep()
        return JSONResponse([task.to_json() for task in desk.tasks])

    async def add(request: Request) -> Response:
        wish = await _json(request)
        clip = desk.clips[str(wish.get("clip"))]
        canvas = Canvas.from_pads(clip.reader.info.height, clip.reader.info.width, *_pads(wish.get("pads")))
        choice, only_estimate = Choice.of(wish, desk.offered), wish.get("only_estimate") is True
        seeds = wish.get("seeds") or []
        if not isinstance(seeds, list) or len(seeds) > MOST_SEEDS:
            raise UserError(f"{MOST_SEEDS} seeds are the most at once")
        wishes = [{**wish, "options": {**(wish.get("options") or {}), "seed": seed}} for seed in seeds]
        choices = [Choice.of(each, desk.offered) for each in wishes] if hasattr(choice.options, "seed") else []
        made = [
            await run_in_threadpool(desk.tasks.add, clip, canvas, each, only_estimate) for each in choices or [choice]
        ]
        return JSONResponse([task.to_json() for task in made], 201)

    async def cancel(request: Request) -> Response:
        desk.tasks.cancel(request.path_params["id"])
        return Response(status_code=204)

    async def remove(request: Request) -> Response:
        await run_in_threadpool(desk.tasks.remove, request.path_params["id"])
        return Response(status_code=204)

    async def task_picture(request: Request) -> Response:
        picture = desk.tasks[request.path_params["id"]].picture
        return Response(picture, media_type="image/jpeg") if picture else Response(status_code=204)

    async def result(request: Request) -> Response:
        task = desk.tasks[request.path_params["id"]]
        if task.state != State.DONE or task.only_estimate:
            return _told("this task has no result", 404)
        name = f"{Path(task.clip.name).stem or 'clip'}-{task.canvas.width}x{task.canvas.height}.mp4"
        kept = name if "download" in request.query_params else None
        return FileResponse(task.target, media_type="video/mp4", filename=kept)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(desk.close)

    one = "{id:str}"
    routes = [
        Route("/", page),
        Route("/files/{name:str}", file),
        Route("/api/offered", offered),
        Route("/api/clips", upload, methods=["POST"]),
        Route("/api/samples/{name:str}", sample, methods=["POST"]),
        Route(f"/api/clips/{one}", clip),
        Route(f"/api/clips/{one}/picture", clip_picture),
        Route(f"/api/clips/{one}/frame", frame),
        Route("/api/tasks", tasks),
        Route("/api/tasks", add, methods=["POST"]),
        Route(f"/api/tasks/{one}", remove, methods=["DELETE"]),
        Route(f"/api/tasks/{one}/cancel", cancel, methods=["POST"]),
        Route(f"/api/tasks/{one}/picture", task_picture),
        Route(f"/api/tasks/{one}/result", result),
    ]
    guard = Middleware(Guard, hosts=hosts, token=token)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={UserError: _refused}, lifespan=lifespan)


async def _refused(request: Request, error: Exception) -> Response:
    gone = "not here any more" in str(error)
    return _told(str(error), 404 if gone else 400)


def _told(sentence: str, status: int) -> Response:
    return JSONResponse({"error": sentence}, status)


async def _json(request: Request) -> dict[str, Any]:
    """The body, a small object; raises UserError otherwise."""
    if int(request.headers.get("content-length") or 0) > MOST_JSON:
        raise UserError("this is more than a page asks for")
    try:
        value = await request.json()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError("this is nothing that a page asks for")
    return value


def _pads(value: Any) -> list[int]:
    sides: list[Any] = (
        [value.get(side) for side in ("left", "right", "top", "bottom")] if isinstance(value, dict) else [None]
    )
    if not all(type(side) is int and 0 <= side < 2**15 for side in sides):
        raise UserError("the pads are whole numbers of pixels, for left, right, top and bottom")
    return sides
