"""Pages: who is logged in, and an order by telephone."""

from asgiref.sync import async_to_sync
from greenroom.bridges.channels.layers import get_channel_layer
from django.contrib.auth import authenticate, login
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from .consumers import KITCHEN
from .models import Order


@csrf_exempt
def enter(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, username=request.POST["name"], password=request.POST["password"])
    if user is None:
        return HttpResponse("who?", status=403)
    login(request, user)
    return HttpResponse(f"hello {user.get_username()}")


@csrf_exempt
def take_away(request: HttpRequest) -> HttpResponse:
    order = Order.objects.create(table=0, dish=request.POST["dish"], waiter="telephone")
    event = {"type": "order.placed", "order": order.as_json()}
    async_to_sync(get_channel_layer().group_send)(KITCHEN, event)
    return HttpResponse("ordered", status=201)
