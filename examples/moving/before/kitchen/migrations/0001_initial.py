"""The table of orders."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("table", models.IntegerField()),
                ("dish", models.CharField(max_length=100)),
                ("waiter", models.CharField(max_length=100)),
                ("ready", models.BooleanField(default=False)),
                ("bill", models.TextField(default="")),
            ],
        ),
    ]
