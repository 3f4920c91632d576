"""Ordinary Django pages: the chat, and the admin."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("chat.urls")),
    *staticfiles_urlpatterns(),  # under any server, while DEBUG is on
]
