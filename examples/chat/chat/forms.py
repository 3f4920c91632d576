from django import forms
from django.utils.text import slugify

from .models import Room


class NewRoomForm(forms.Form):
    name = forms.CharField(
        max_length=60,
        widget=forms.TextInput(attrs={"placeholder": "Name of a new room", "autocomplete": "off"}),
    )

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not slugify(name):
            raise forms.ValidationError("A name needs a letter or a digit.")
        if Room.objects.filter(slug=slugify(name)).exists():
            raise forms.ValidationError("There is a room of this name.")
        return name

    def save(self) -> Room:
        name: str = self.cleaned_data["name"]
        return Room.objects.create(name=name, slug=slugify(name))
