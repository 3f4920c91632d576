"""Two ordinary views: one that answers at once, one that asks the database."""

from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse
from django.urls import path


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello")


def count(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{Group.objects.count()} groups")


urlpatterns = [path("hello/", hello), path("count/", count)]
