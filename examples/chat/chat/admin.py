from django.contrib import admin

from .models import Message, Room

admin.site.site_header = "Greenroom chat"
admin.site.register(
    Room,
    list_display=("name", "topic", "created_at"),
    search_fields=("name", "topic"),
    prepopulated_fields={"slug": ("name",)},
)
admin.site.register(
    Message,
    list_display=("room", "author", "text", "sent_at"),
    list_filter=("room", "author"),
    search_fields=("text",),
    list_select_related=("room", "author"),
    date_hierarchy="sent_at",
)
