"""The pages: a list of rooms, and a room with what was said in it so far."""

from django.contrib.auth.decorators import login_required
from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from .forms import NewRoomForm
from .models import MAX_TEXT_LENGTH, Message, Room

HISTORY = 100  # messages that a page shows


@login_required
def rooms(request: HttpRequest) -> HttpResponse:
    form = NewRoomForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return redirect(form.save())
    listed = Room.objects.annotate(
        message_count=Count("messages"), last_sent_at=Max("messages__sent_at")
    )
    return render(request, "chat/rooms.html", {"rooms": listed, "form": form})


@login_required
def room(request: HttpRequest, slug: str) -> HttpResponse:
    room = get_object_or_404(Room, slug=slug)
    said = Message.objects.filter(room=room).select_related("author")
    return render(
        request,
        "chat/room.html",
        {
            "room": room,
            "history": reversed(said.order_by("-pk")[:HISTORY]),
            "max_text_length": MAX_TEXT_LENGTH,
        },
    )
