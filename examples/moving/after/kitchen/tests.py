"""The project's own tests."""

from greenroom.bridges.channels.layers import get_channel_layer
from greenroom.bridges.channels.testing import (
    ApplicationCommunicator,
    HttpCommunicator,
    WebsocketCommunicator,
)
from django.contrib.auth.models import AnonymousUser, User
from django.test import TransactionTestCase

from .asgi import application
from .consumers import KITCHEN, PRINTER, KitchenConsumer, WaiterConsumer, table_group
from .middleware import TableMiddleware
from .models import Order


class KitchenTests(TransactionTestCase):
    async def test_an_order_is_on_the_screen_and_its_waiter_hears_when_it_is_ready(self) -> None:
        screen = WebsocketCommunicator(KitchenConsumer.as_asgi(), "/kitchen/")
        pad = WebsocketCommunicator(TableMiddleware(WaiterConsumer.as_asgi()), "/waiter/?table=4")
        pad.scope["user"] = User(username="ada")
        assert await screen.connect() == (True, None)
        assert await screen.receive_json_from() == {"waiting": 0}
        assert await pad.connect() == (True, None)
        await pad.send_to(text_data="soup")
        shown = await screen.receive_json_from()
        assert shown["dish"] == "soup"
        assert shown["table"] == 4
        await screen.send_json_to({"ready": shown["order"]})
        assert await pad.receive_from() == "soup is ready"
        order = await Order.objects.aget()
        assert order.ready
        assert order.waiter == "ada"
        await pad.disconnect()
        await screen.disconnect()

    async def test_who_is_not_logged_in_takes_no_orders(self) -> None:
        pad = WebsocketCommunicator(TableMiddleware(WaiterConsumer.as_asgi()), "/waiter/")
        pad.scope["user"] = AnonymousUser()
        connected, code = await pad.connect()
        assert not connected
        assert code == 1000

    async def test_a_page_of_another_site_sees_no_screen(self) -> None:
        headers = [(b"origin", b"http://elsewhere.example")]
        screen = WebsocketCommunicator(application, "/kitchen/", headers=headers)
        connected, _ = await screen.connect()
        assert not connected

    async def test_an_order_by_telephone_is_on_the_screen(self) -> None:
        screen = WebsocketCommunicator(KitchenConsumer.as_asgi(), "/kitchen/")
        await screen.connect()
        await screen.receive_json_from()
        call = HttpCommunicator(
            application,
            "POST",
            "/take-away/",
            body=b"dish=pizza",
            headers=[
                (b"host", b"localhost"),
                (b"content-type", b"application/x-www-form-urlencoded"),
            ],
        )
        response = await call.get_response()
        assert response["status"] == 201
        assert (await screen.receive_json_from())["dish"] == "pizza"
        await screen.disconnect()

    async def test_a_screen_that_is_told_nonsense_ends(self) -> None:
        screen = WebsocketCommunicator(KitchenConsumer.as_asgi(), "/kitchen/")
        await screen.connect()
        await screen.receive_json_from()
        await screen.send_json_to({"ready": 99})
        with self.assertRaises(Order.DoesNotExist):
            await screen.wait()

    async def test_the_printer_prints_a_bill(self) -> None:
        order = await Order.objects.acreate(table=7, dish="soup", waiter="ada")
        layer = get_channel_layer()
        guest = await layer.new_channel()
        await layer.group_add(table_group(7), guest)
        scope = {"type": "channel", "channel": PRINTER}
        printer = ApplicationCommunicator(application, scope)
        await printer.send_input({"type": "print.bill", "order": order.pk})
        assert (await layer.receive(guest))["bill"] == "1 soup, served by ada"
        printer.stop()

    async def test_a_group_of_nobody_hears_nothing(self) -> None:
        screen = WebsocketCommunicator(KitchenConsumer.as_asgi(), "/kitchen/")
        await screen.connect()
        await screen.receive_json_from()
        await get_channel_layer().group_send("elsewhere", {"type": "order.placed", "order": {}})
        assert await screen.receive_nothing()
        await get_channel_layer().group_send(KITCHEN, {"type": "order.placed", "order": {}})
        assert await screen.receive_json_from() == {}
        await screen.disconnect()
