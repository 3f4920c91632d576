"""The pages of the test project."""

from django.http import HttpRequest, HttpResponse
from django.urls import path


def hello(request: HttpRequest) -> HttpResponse:
    """Greet, with the name that the session's user has."""
    return HttpResponse(f"hello {request.user.get_username() or 'stranger'}")


urlpatterns = [path("hello/", hello)]
