"""Where pages are."""

from django.urls import path

from . import views

urlpatterns = [
    path("enter/", views.enter),
    path("take-away/", views.take_away),
]
