"""Who may ask: this machine's browser, for pages that come from here.

A page of another site cannot ask in its visitor's name (`Origin`, `Sec-Fetch-Site`), nor by a name of its own that
leads here (`Host`; DNS rebinding). Where other machines may ask, they need the token of the address that was printed;
the browser keeps it as a cookie, so that it is not in the address any more.
"""

import hmac
import urllib.parse

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE, PARAMETER = "gp_jax_token", "token"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware; answers 403 to whoever may not ask.

    Args:
      app: behind it.
      hosts: the names by which the server is addressed; empty for any, which only a token makes safe.
      token: that others have to know; empty for none.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] = (), token: str = ""):
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        try:
            answer = self._refusal(request) or self._welcome(request)
        except ValueError:  # a Host or Origin such as "["
            answer = PlainTextResponse("this is no address", 403)
        if answer is None:
            await self.app(scope, receive, _with_headers(send))
        else:
            await answer(scope, receive, send)

    def _refusal(self, request: HTTPConnection) -> Response | None:
        host = request.headers.get("host", "")
        if self.hosts and urllib.parse.urlsplit(f"//{host}").hostname not in self.hosts:
            return PlainTextResponse("this server does not go by that name", 403)
        origin = request.headers.get("origin")
        foreign = origin is not None and urllib.parse.urlsplit(origin).netloc != host
        # Whoever follows a link to the page itself asks for nothing in anybody's name.
        is_link = request.scope["method"] == "GET" and request.url.path == "/"
        elsewhere = request.headers.get("sec-fetch-site") in ("cross-site", "same-site") and not is_link
        if foreign or elsewhere:
            return PlainTextResponse("pages of other sites may not ask here", 403)
        known = request.cookies.get(COOKIE, ""), request.query_params.get(PARAMETER, "")
        if self.token and not any(hmac.compare_digest(given.encode(), self.token.encode()) for given in known):
            return PlainTextResponse("open the address that the server printed, with its token", 403)
        return None

    def _welcome(self, request: HTTPConnection) -> Response | None:
        """Takes the token out of the address."""
        if not self.token or PARAMETER not in request.query_params or request.scope["method"] != "GET":
            return None
        answer = RedirectResponse(request.url.path, 303)
        answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
        return answer


def _with_headers(send: Send) -> Send:
    async def sending(message):
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            added = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items() if k.lower().encode() not in there]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending
