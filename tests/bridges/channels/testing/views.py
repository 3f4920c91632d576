"""Pages that a communicator asks for."""

from django.http import HttpRequest, HttpResponse
from django.urls import path


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


async def plain_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


PAGE = """<!doctype html>
<title>Live</title>
<link rel="icon" href="data:,">
<p id="answer"></p>
<script>
  const socket = new WebSocket(`ws://${location.host}/ws/`);
  socket.onopen = () => socket.send("from a browser");
  socket.onmessage = (event) => {
    document.querySelector("#answer").textContent = `answer ${event.data}`;
  };
</script>
"""


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE)


urlpatterns = [
    path("plain/", plain),
    path("plain-async/", plain_async),
    path("page/", page),
]
