"""Pages of the project."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from .notes.consumers import write
from .notes.models import Note


def count(request: HttpRequest) -> HttpResponse:
    """Count the notes."""
    return HttpResponse(str(Note.objects.count()))


async def count_asynchronously(request: HttpRequest) -> HttpResponse:
    """Count the notes."""
    return HttpResponse(str(await Note.objects.acount()))


def write_and_count(request: HttpRequest) -> HttpResponse:
    """Write one down, and count."""
    return HttpResponse(str(write("by a view")))


urlpatterns = [
    path("count/", count),
    path("acount/", count_asynchronously),
    path("write/", write_and_count),
]
