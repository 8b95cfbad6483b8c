"""Shops' exports for tests of `init` and `doctor`: eight layouts, and forms of well-known shop systems."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd

GOODS = ["Red Teapot", "Cotton Socks", "Oak Table", "Garden Hose", "Desk Lamp", "Wool Blanket", "Bread Knife"]
WORDS = [
    "the",
    "teapot",
    "is",
    "very",
    "good",
    "and",
    "came",
    "late",
    "but",
    "its",
    "lid",
    "closes",
    "well",
    "so",
    "far",
]
START = datetime(2025, 11, 3, 9, 30)


def events(n: int = 300) -> list[dict[str, Any]]:
    """Purchases with a review each, in the order of time."""
    draw = random.Random(1)
    rows = []
    for number in range(n):
        item = draw.randrange(len(GOODS))
        rows.append(
            {
                "user": 10_000 + draw.randrange(60),
                "item": f"P{item:04d}",
                "title": GOODS[item],
                "at": START + timedelta(hours=7 * number),
                "quantity": draw.randint(1, 4),
                "price": draw.randint(99, 250_000) / 100,
                "order": 500_000 + number,
                "stars": draw.randint(1, 5),
                "text": " ".join(draw.sample(WORDS, 12)),
            }
        )
    return rows


def csv_bytes(head: Sequence[str], rows: Sequence[Sequence[Any]], sep: str = ",", encoding: str = "utf-8") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=sep).writerows([head, *rows])
    return text.getvalue().encode(encoding)


def german(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def german_shop(folder: Path) -> dict[str, dict[str, str]]:
    rows = [
        [e["user"], e["item"], e["at"].strftime("%d.%m.%Y %H:%M"), german(e["price"]), e["quantity"]] for e in events()
    ]
    head = ["Kundennummer", "Artikelnr", "Bestelldatum", "Einzelpreis", "Menge"]
    (folder / "bestellungen.csv").write_bytes(csv_bytes(head, rows, ";", "cp1252"))
    goods = [[f"P{n:04d}", t.replace("e", "ä"), german(n + 0.5), "ja" if n else "nein"] for n, t in enumerate(GOODS)]
    head = ["Artikelnr", "Bezeichnung", "Verkaufspreis", "lieferbar"]
    (folder / "artikel.csv").write_bytes(csv_bytes(head, goods, ";", "cp1252"))
    lines = [
        {
            "bewertung_id": n,
            "kunde": e["user"],
            "artikel": e["item"],
            "sterne": e["stars"],
            "text": e["text"],
            "datum": e["at"].strftime("%d.%m.%Y"),
        }
        for n, e in enumerate(events())
    ]
    (folder / "bewertungen.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return {
        "purchases": {
            "user_id": "Kundennummer",
            "item_id": "Artikelnr",
            "purchased_at": "Bestelldatum",
            "unit_price": "Einzelpreis",
            "quantity": "Menge",
        },
        "items": {"item_id": "Artikelnr", "title": "Bezeichnung", "price": "Verkaufspreis", "available": "lieferbar"},
        "reviews": {
            "review_id": "bewertung_id",
            "user_id": "kunde",
            "item_id": "artikel",
            "rating": "sterne",
            "text": "text",
            "reviewed_at": "datum",
        },
    }


def us_shop(folder: Path) -> dict[str, dict[str, str]]:
    rows = [
        [
            f"{e['user']}.0",
            e["item"],
            e["title"],
            e["at"].strftime("%m/%d/%Y %I:%M %p"),
            f"${e['price']:,.2f}",
            e["quantity"],
            e["order"],
            "delivered",
        ]
        for e in events()
    ]
    head = ["Customer ID", "SKU", "Product Name", "Order Date", "Unit Price", "Qty", "Order Number", "Status"]
    (folder / "sales 2025.csv.gz").write_bytes(gzip.compress(csv_bytes(head, rows)))
    return {
        "purchases": {
            "user_id": "Customer ID",
            "item_id": "SKU",
            "purchased_at": "Order Date",
            "unit_price": "Unit Price",
            "quantity": "Qty",
            "order_id": "Order Number",
            "title": "Product Name",
        }
    }


def warehouse(folder: Path) -> dict[str, dict[str, str]]:
    frame = pd.DataFrame(events())
    purchases = pd.DataFrame(
        {
            "customer_key": frame["user"].astype(float),
            "product_key": frame["item"],
            "order_ts": frame["at"],
            "qty": frame["quantity"],
            "unit_price": frame["price"],
            "order_key": frame["order"],
        }
    )
    purchases.to_parquet(folder / "fact_sales.parquet", coerce_timestamps="us")
    pd.DataFrame(
        {
            "product_key": [f"P{n:04d}" for n in range(len(GOODS))],
            "product_name": GOODS,
            "category_name": "Home",
            "is_active": True,
        }
    ).to_parquet(folder / "dim_product.parquet")
    return {
        "purchases": {
            "user_id": "customer_key",
            "item_id": "product_key",
            "purchased_at": "order_ts",
            "quantity": "qty",
            "unit_price": "unit_price",
            "order_id": "order_key",
        },
        "items": {
            "item_id": "product_key",
            "title": "product_name",
            "category": "category_name",
            "available": "is_active",
        },
    }


def marketplace(folder: Path) -> dict[str, dict[str, str]]:
    """JSON with nested objects and times since 1970, and reviews with stars in words."""
    lines = [
        {
            "transaction": {"id": f"T{e['order']}", "created": int(e["at"].timestamp() * 1000)},
            "buyer": {"id": str(e["user"])},
            "product": {"sku": e["item"], "title": e["title"]},
        }
        for e in events()
    ]
    (folder / "transactions.ndjson").write_text("\n".join(map(json.dumps, lines)))
    reviews = [
        {
            "review_id": f"R{n}",
            "reviewer_id": e["user"],
            "asin": e["item"],
            "star_rating": f"{e['stars']}.0 out of 5 stars",
            "review_body": e["text"],
            "review_date": e["at"].strftime("%B %d, %Y"),
        }
        for n, e in enumerate(events())
    ]
    (folder / "reviews.json").write_text(json.dumps(reviews, indent=1))
    return {
        "purchases": {
            "user_id": "buyer.id",
            "item_id": "product.sku",
            "purchased_at": "transaction.created",
            "order_id": "transaction.id",
            "title": "product.title",
        },
        "reviews": {
            "review_id": "review_id",
            "user_id": "reviewer_id",
            "item_id": "asin",
            "rating": "star_rating",
            "text": "review_body",
            "reviewed_at": "review_date",
        },
    }


def spreadsheet(folder: Path) -> dict[str, dict[str, str]]:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Orders"
    sheet.append(["Orders of the shop"])
    sheet.append([])
    sheet.append(["Client No", "Item Code", "Purchase Date", "Quantity", "Item Description"])
    for e in events(100):
        sheet.append([e["user"], e["item"], e["at"], e["quantity"], e["title"]])
    book.save(folder / "shop.xlsx")
    return {
        "purchases": {
            "user_id": "Client No",
            "item_id": "Item Code",
            "purchased_at": "Purchase Date",
            "quantity": "Quantity",
            "title": "Item Description",
        }
    }


def chinese_shop(folder: Path) -> dict[str, dict[str, str]]:
    rows = [
        [
            e["user"],
            e["item"],
            "商品" + e["item"],
            e["at"].strftime("%Y年%m月%d日"),
            e["price"],
            e["quantity"],
            e["order"],
        ]
        for e in events()
    ]
    (folder / "订单.csv").write_bytes(
        csv_bytes(["用户ID", "商品编号", "商品名称", "下单时间", "单价", "数量", "订单编号"], rows, "\t", "gb18030")
    )
    return {
        "purchases": {
            "user_id": "用户ID",
            "item_id": "商品编号",
            "title": "商品名称",
            "purchased_at": "下单时间",
            "unit_price": "单价",
            "quantity": "数量",
            "order_id": "订单编号",
        }
    }


def searching_shop(folder: Path) -> dict[str, dict[str, str]]:
    rows = [[e["user"], e["title"].lower(), e["at"].isoformat() + "Z", e["item"]] for e in events()]
    (folder / "search_log.psv").write_bytes(
        csv_bytes(["visitor_id", "search_term", "searched_at", "clicked_sku"], rows, "|")
    )
    bought = [[e["user"], e["item"], e["at"].strftime("%Y%m%d%H%M%S"), e["title"]] for e in events()]
    (folder / "purchases.tsv").write_bytes(
        csv_bytes(["user_id", "item_id", "purchased_at", "title"], bought, "\t", "utf-16")
    )
    (folder / "optouts.txt").write_bytes(csv_bytes(["user_id"], [[e["user"]] for e in events(5)]))
    return {
        "searches": {
            "user_id": "visitor_id",
            "query": "search_term",
            "searched_at": "searched_at",
            "clicked_item_id": "clicked_sku",
        },
        "purchases": {"user_id": "user_id", "item_id": "item_id", "purchased_at": "purchased_at", "title": "title"},
        "optouts": {"user_id": "user_id"},
    }


def headless_shop(folder: Path) -> dict[str, dict[str, str]]:
    """Files without unmistakable names: init may find what it likes, but must ask."""
    rows = [
        [e["user"], e["item"], e["title"], (START + timedelta(days=e["stars"])).strftime("%d/%m/%y"), e["price"]]
        for e in events()
    ]
    (folder / "orders_export.csv").write_bytes(csv_bytes(["Account", "Product", "Name", "Date", "Amount"], rows))
    return {"purchases": {"user_id": "Account", "item_id": "Product", "title": "Name", "purchased_at": "Date"}}


LAYOUTS: list[Callable[[Path], dict[str, dict[str, str]]]] = [
    german_shop, us_shop, warehouse, marketplace, spreadsheet, chinese_shop, searching_shop, headless_shop,
]  # fmt: skip


#: Headers of well-known exports: file name, how each column writes an event, and the right source of each column.
EXPORTS: dict[str, tuple[str, dict[str, Callable[[dict[str, Any]], Any]], dict[str, str]]] = {
    "shopify": (
        "orders_export_1.csv",
        {
            "Name": lambda e: f"#{e['order']}",
            "Email": lambda e: f"c{e['user']}@example.org",
            "Paid at": lambda e: e["at"].strftime("%Y-%m-%d %H:%M:%S +0000"),
            "Created at": lambda e: e["at"].strftime("%Y-%m-%d %H:%M:%S +0000"),
            "Lineitem quantity": lambda e: e["quantity"],
            "Lineitem name": lambda e: e["title"],
            "Lineitem price": lambda e: e["price"],
            "Lineitem sku": lambda e: e["item"],
        },
        {
            "user_id": "Email",
            "item_id": "Lineitem sku",
            "purchased_at": "Paid at",
            "quantity": "Lineitem quantity",
            "title": "Lineitem name",
        },
    ),
    "retailrocket": (
        "events.csv",
        {
            "timestamp": lambda e: int(e["at"].timestamp() * 1000),
            "visitorid": lambda e: e["user"],
            "event": lambda e: "view" if e["stars"] < 4 else "transaction",
            "itemid": lambda e: e["item"],
            "transactionid": lambda e: e["order"] if e["stars"] >= 4 else "",
        },
        {"user_id": "visitorid", "item_id": "itemid", "purchased_at": "timestamp", "order_id": "transactionid"},
    ),
    "fashion": (
        "transactions_train.csv",
        {
            "t_dat": lambda e: e["at"].strftime("%Y-%m-%d"),
            "customer_id": lambda e: e["user"],
            "article_id": lambda e: e["item"],
            "price": lambda e: e["price"],
            "sales_channel_id": lambda e: 2,
        },
        {"user_id": "customer_id", "item_id": "article_id", "purchased_at": "t_dat", "unit_price": "price"},
    ),
    "films": (
        "ratings.csv",
        {
            "userId": lambda e: e["user"],
            "movieId": lambda e: e["item"],
            "rating": lambda e: e["stars"],
            "timestamp": lambda e: int(e["at"].timestamp()),
        },
        {"user_id": "userId", "item_id": "movieId", "purchased_at": "timestamp"},
    ),
    "one customer an order": (
        "order_history.csv",
        {
            "customer_id": lambda e: e["order"],
            "product_id": lambda e: e["item"],
            "order_purchase_timestamp": lambda e: e["at"].isoformat(),
            "order_delivered_date": lambda e: e["at"].isoformat(),
            "product_name": lambda e: e["title"],
        },
        {"item_id": "product_id", "purchased_at": "order_purchase_timestamp", "title": "product_name"},
    ),
}
