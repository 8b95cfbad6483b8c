"""`regulars init` recognises a table of customers, whose further columns it keeps, and a table of views and carts."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from rich.console import Console

from jobs.commands.init import write_configuration


def test_customers_and_events_are_recognised(tmp_path: Path) -> None:
    customers = [
        f"K{n};{n:05d};{'north' if n % 3 else 'south'};19{60 + n % 40};k{n}@example.com;k{n}@example.org;{n % 2}"
        for n in range(300)
    ]
    events = [
        f"K{n % 50};P{n % 7};{'cart' if n % 5 == 0 else 'view'};2026-01-0{1 + n % 9} 10:00:00" for n in range(300)
    ]
    orders = [f"O{n};K{n % 50};P{n % 7};2026-01-0{1 + n % 9} 11:00:00;1.50;Tea {n % 7}" for n in range(300)]
    for name, lines in {
        "customers": ["CustomerNo;Post-Code;Region;Born;E-Mail;Contact;mail", *customers],
        "events": ["customer_id;product_id;type;event_time", *events],
        "orders": ["order_id;customer_id;product_id;order_date;price;product_name", *orders],
    }.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = tmp_path / "regulars.yaml"
    paths = [str(tmp_path / f"{name}.csv") for name in ("customers", "events", "orders")]
    write_configuration(paths, config, "Europe/London", True, Console(quiet=True))
    text = config.read_text(encoding="utf-8")
    inputs = yaml.safe_load(text)["inputs"]
    assert set(inputs) == {"purchases", "customers", "events"}
    assert inputs["customers"]["columns"] == {
        "user_id": "CustomerNo", "post_code": "Post-Code", "region": "Region", "born": "Born", "mail": "mail",
    }  # fmt: skip
    for column, source in (("e_mail", "E-Mail"), ("contact", "Contact")):  # "mail" is a consent, 0 or 1
        assert f"# (?) {column} (further column): {source} holds e-mail addresses" in text
        assert re.search(rf"^ +# {column}: ", text, re.MULTILINE)
    assert "example.com" not in text
    assert inputs["events"]["columns"] == {
        "user_id": "customer_id", "item_id": "product_id", "kind": "type", "happened_at": "event_time",
    }  # fmt: skip
