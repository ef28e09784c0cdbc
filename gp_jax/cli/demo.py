"""Opens a page in the browser: drop a clip, drag its frame, watch it grow.

The page is served on this machine alone, and everything stays on it. Clips and results are removed after six hours, and
when the server ends. With --host others on the network can open it too, by the address that is printed, with its token.

examples:
  gp-jax demo
  gp-jax demo --port 8001 --checkpoint my_model/ --checkpoint m3ddm/ --lora ink.safetensors
  gp-jax demo --host 0.0.0.0 --max-upload 100
"""

import argparse
import contextlib
import ipaddress
import secrets
import socket
import sys
import tempfile
from pathlib import Path

from gp_jax.cli import arguments as parse
from gp_jax.cli.ending import end_at_once
from gp_jax.errors import UserError

LOCAL = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument("--port", type=parse.index, default=7860, metavar="N", help="0 for any that is free")
    parser.add_argument("--host", default=LOCAL[0], metavar="ADDRESS", help="0.0.0.0 for other machines as well")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="DIR",
        help="to choose from, beside this package's; several",
    )
    parser.add_argument("--lora", action="append", default=[], metavar="FILE", help="to choose from; several")
    parser.add_argument("--max-upload", type=parse.count, default=500, metavar="MIB", help="of a clip")
    parser.add_argument("--max-frames", type=parse.count, default=2000, metavar="N", help="of a clip")


def run(arguments: argparse.Namespace) -> None:
    """Serves until Ctrl-C."""
    try:
        import uvicorn

        from gp_jax.web.server import Desk, make_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "starlette"):
            raise
        raise UserError(f"the page needs {error.name}: install it by pip install 'gp_jax[web]'") from error
    from gp_jax.web.choices import Offered

    offered = Offered.of(arguments.checkpoint, arguments.lora)
    desk = None
    try:
        with (
            _listening(arguments.host, arguments.port) as listener,
            tempfile.TemporaryDirectory(prefix="gp-jax-") as folder,
        ):
            host, port = listener.getsockname()[:2]
            is_local = ipaddress.ip_address(host).is_loopback
            token = "" if is_local else secrets.token_urlsafe(24)
            limits = {"most_bytes": arguments.max_upload * 2**20, "most_frames": arguments.max_frames}
            desk = Desk(Path(folder), offered, **limits)
            app = make_app(desk, hosts=(*LOCAL, host) if is_local else (), token=token)
            name = socket.gethostname() if ipaddress.ip_address(host).is_unspecified else host
            shown = f"[{name}]" if ":" in name else name
            print(f"http://{shown}:{port}/{f'?token={token}' if token else ''}", flush=True)
            print("gp-jax: Ctrl-C ends it", file=sys.stderr)
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
            server.run(sockets=[listener])
    except (KeyboardInterrupt, SystemExit) as error:
        if desk and desk.tasks.is_alive:  # it compiles, and would abort the process when Python ends under it
            end_at_once(getattr(error, "code", 130))
        raise


def _listening(host: str, port: int) -> socket.socket:
    """Raises UserError where the address is not this machine's, or in use."""
    if port > 65535:
        raise UserError(f"--port {port} is no port: they end at 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()  # whoever opens the address at once waits, and is not refused
            opened.pop_all()
            return listener
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no machine can have this name"
        raise UserError(f"nothing can be served at {host}:{port}: {reason}; choose another --port or --host") from error
