"""Waiters, the kitchen's screen, guests who wait, and the printer of the bills."""

import json
from typing import Any

from asgiref.sync import async_to_sync
from channels.consumer import SyncConsumer
from channels.db import database_sync_to_async
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import (
    AsyncJsonWebsocketConsumer,
    WebsocketConsumer,
)

from .models import Order

KITCHEN = "kitchen"
PRINTER = "printer"


def table_group(table: int) -> str:
    return f"table.{table}"


class WaiterConsumer(WebsocketConsumer):
    """A waiter's pad at one table: it takes a dish a line."""

    def connect(self) -> None:
        self.table = self.scope["table"]
        if not self.scope["user"].is_authenticated:
            self.close()
            return
        async_to_sync(self.channel_layer.group_add)(table_group(self.table), self.channel_name)
        self.accept()

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        order = Order.objects.create(
            table=self.table, dish=text_data or "", waiter=self.scope["user"].username
        )
        event = {"type": "order.placed", "order": order.as_json()}
        async_to_sync(self.channel_layer.group_send)(KITCHEN, event)

    def order_ready(self, event: dict[str, Any]) -> None:
        self.send(f"{event['dish']} is ready")

    def bill_printed(self, event: dict[str, Any]) -> None:
        self.send(event["bill"])

    def disconnect(self, code: int) -> None:
        async_to_sync(self.channel_layer.group_discard)(table_group(self.table), self.channel_name)


class KitchenConsumer(AsyncJsonWebsocketConsumer):
    """The screen in the kitchen: it shows orders, and says which one is ready."""

    groups = [KITCHEN]

    async def connect(self) -> None:
        await self.accept()
        await self.send_json({"waiting": await self.waiting()})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        order = await self.finish(content["ready"])
        event = {"type": "order.ready", "dish": order.dish}
        await self.channel_layer.group_send(table_group(order.table), event)
        await self.channel_layer.send(PRINTER, {"type": "print.bill", "order": order.pk})

    async def order_placed(self, event: dict[str, Any]) -> None:
        await self.send_json(event["order"])

    @database_sync_to_async
    def waiting(self) -> int:
        return Order.objects.filter(ready=False).count()

    @database_sync_to_async
    def finish(self, order_id: int) -> Order:
        order = Order.objects.get(pk=order_id)
        order.ready = True
        order.save()
        return order


class TableEvents(AsyncHttpConsumer):
    """Server-sent events for the guests of one table."""

    async def handle(self, body: bytes) -> None:
        table = self.scope["url_route"]["kwargs"]["table"]
        channel = await self.channel_layer.new_channel()
        await self.channel_layer.group_add(table_group(table), channel)
        try:
            await self.send_headers(headers=[(b"Content-Type", b"text/event-stream")])
            await self.send_body(b": welcome\n\n", more_body=True)
            while True:
                event = await self.channel_layer.receive(channel)
                if event["type"] == "order.ready":
                    data = json.dumps({"ready": event["dish"]})
                    await self.send_body(f"data: {data}\n\n".encode(), more_body=True)
        finally:
            await self.channel_layer.group_discard(table_group(table), channel)


class PrinterConsumer(SyncConsumer):
    """Prints bills: `manage.py runworker printer`."""

    def print_bill(self, message: dict[str, Any]) -> None:
        order = Order.objects.get(pk=message["order"])
        order.bill = f"1 {order.dish}, served by {order.waiter}"
        order.save()
        event = {"type": "bill.printed", "bill": order.bill}
        async_to_sync(self.channel_layer.group_send)(table_group(order.table), event)
