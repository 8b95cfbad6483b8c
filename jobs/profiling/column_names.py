"""What shops call their files and columns, in several languages, as regular expressions over normalised names.

A normalised name is lower case, without accents, with _ between words: CustomerID, customer-id and Customer.Id are
all customer_id. `strong` names leave no doubt about a column's meaning; `weak` ones need a question.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass


def _any(words: str) -> str:
    """Return the expression of any of the words, which spaces separate."""
    return f"({'|'.join(words.split())})"


_PERSON = _any(
    "customer client user member buyer shopper reviewer visitor household account cust panelist consumer kund kunden? "
    "kd benutzer nutzer mitglieds? kaufer cliente usuario comprador utilisateur acheteur klant gebruiker klient "
    "utente 用户 客户 会员 买家 顾客"
)
_ITEM = _any(
    "items? products? prod sku asins? ean gtin isbn upc articles? artikel stock goods? ware produkt produit producto "
    "articulo produto prodotto articolo 商品 产品 货品 book movie business material"
)
_ORDER = _any(
    "order invoice transaction receipt basket purchase bestell bestellung auftrag auftrags rechnung rechnungs beleg "
    "bon commande facture pedido factura fatura ordine 订单 ticket trans"
)
_REVIEW = _any("reviews? ratings? feedback opinion bewertungs? rezensions? avis resena 评论 评价")
_ID = _any(
    "id ids no nr num number nummer code key uid uuid ref numero codigo codice 编号 号 号码 identifier kennung sku"
)
_TIME = _any(
    "date time datetime timestamp at on day datum zeit zeitpunkt tag fecha hora data heure jour 日期 时间 ts dt "
    "date_time time_stamp utc"
)
_NAME = _any("name title titel bezeichnung description desc titre nom nombre nome titolo omschrijving 名称 标题 名")
_BOUGHT = _any(
    "purchase[ds]? bought order(ed)? invoice[ds]? transaction trans sales? sold placed paid checkout bestell bestellt "
    "bestellung kaufs? gekauft beleg rechnungs? auftrags? commande achat pedido compra ordine 下单 购买 订单"
)
_PRICE = _any("price preis prix precio preco prezzo prijs 价格")
_CREATED = rf"(.*_)?created(_{_TIME})?|when|posted(_{_TIME})?"
#: A name that says only that it is a time.
ONLY_TIME = rf"{_TIME}(_{_TIME})?"
#: A time whose name has one of these is none of the contract's.
OTHER_TIMES = _any(
    "ship deliver estimat update modif birth expir due return cancel liefer versand geburt added seen first last end "
    "carrier limit"
)


@dataclass(frozen=True)
class Names:
    """Patterns of a column's names: `strong` ones leave no doubt, `weak` ones do."""

    strong: str
    weak: str = "(?!)"

    def score(self, name: str) -> int:
        """Return 2 for a strong name, 1 for a weak one, else 0. `name` is normalised."""
        return 2 if re.fullmatch(self.strong, name) else 1 if re.fullmatch(self.weak, name) else 0


_USER = Names(
    rf"{_PERSON}(_?{_ID})?|{_ID}_{_PERSON}",
    rf"(.*_)?{_PERSON}_?(name|e?_?mail)|(.*_)?username|author(_id)?|e_?mail|(.*_){_PERSON}(_?{_ID})?|anonymous_id"
    rf"|card(_?{_ID})?",
)
_ITEM_ID = Names(
    rf"{_ITEM}(_?{_ID})?|{_ID}_{_ITEM}|parent_asin|art_?(nr|no|nummer|id)",
    rf"(.*_)?{_ITEM}_?{_NAME}|(.*_){_ITEM}(_?{_ID})?|variant(_{_ID})?|{_ITEM}_(variant|uid)|id|cat|category|{_NAME}",
)
_TITLE = Names(
    rf"{_ITEM}_?{_NAME}|{_NAME}|{_ITEM}_label|label", rf"(short|long|full|display)_?{_NAME}|{_ITEM}|(.*_){_NAME}"
)
_SEARCH = _any("search query keyword term suche? such 搜索")

#: The names of each contract column, by table and column.
COLUMN_NAMES: dict[str, dict[str, Names]] = {
    "purchases": {
        "user_id": _USER,
        "item_id": _ITEM_ID,
        "purchased_at": Names(
            rf"{_BOUGHT}_?{_TIME}(_{_TIME})?|(date|time)_of_(purchase|order)|{_BOUGHT}_purchase_{_TIME}|bought",
            rf"{ONLY_TIME}|{_CREATED}|event_{_TIME}|(.*_)?{_BOUGHT}_{_TIME}|unix_time",
        ),
        "quantity": Names(
            _any("quantity qty menge anzahl stuckzahl stk cantidad quantite quantidade quantita aantal 数量 件数")
            + r"|购买数量|(order|item|purchase|ordered)_(quantity|qty)|quantity_(ordered|purchased)",
            _any("units? pieces? count pcs stuck num_items amount"),
        ),
        "unit_price": Names(
            rf"(unit|item|single|einzel|stuck|per_unit)_?({_PRICE}|cost)|price_(per_unit|each|unit)|{_PRICE}_unit\w*|单价",
            rf"(.*_)?{_PRICE}|einzelbetrag|amount|betrag|value",
        ),
        "order_id": Names(rf"{_ORDER}_?{_ID}|{_ID}_{_ORDER}", rf"{_ORDER}|session_id"),
        "title": _TITLE,
    },
    "items": {
        "item_id": Names(_ITEM_ID.strong + "|id", rf"{_ID}|handle|(.*_){_ITEM}(_?{_ID})?"),
        "title": _TITLE,
        "category": Names(
            r"(product_|item_|main_|primary_)?"
            + _any("category kategorie categorie categoria warengruppe produktgruppe 产品类别 类别 类目 分类")
            + r"(_name|_path|_title)?|product_type|breadcrumbs?",
            r"(.*_)?"
            + _any("category categories cat department aisle type group gruppe genre class collection kategorien")
            + r"(_?(name|id|code))?",
        ),
        "brand": Names(
            rf"({_ITEM}_?)?{_any('brand marke marque marca merk manufacturer hersteller maker 品牌')}(_?{_NAME})?",
            "vendor|label|supplier",
        ),
        "price": Names(
            rf"(current_|sale_|list_|retail_)?({_PRICE}|vk|vk_preis|verkaufspreis|售价)",
            rf"(.*_)?({_PRICE}|cost|amount|msrp|rrp)(_.*)?",
        ),
        "available": Names(
            r"(is_)?"
            + _any("available in_?stock sellable verfugbar lieferbar disponible disponivel active aktiv on_sale 上架")
            + "|availability|verfugbarkeit",
            _any("stock lager(bestand)? bestand inventory enabled status published stock_.* 库存"),
        ),
    },
    "reviews": {
        "review_id": Names(rf"{_REVIEW}_?{_ID}|{_ID}_{_REVIEW}", "id|comment_id"),
        "user_id": _USER,
        "item_id": _ITEM_ID,
        "rating": Names(
            rf"({_REVIEW}_?)?{_any('rating stars? score overall sterne estrell?as etoiles stelle 评分 星级 打分')}"
            "|star_rating|bewertung|note|punkte|grade",
            r"(.*_)?(rating|stars?|score|label|bewertung|points|sentiment)(_.*)?",
        ),
        "text": Names(
            rf"({_REVIEW}_?)?{_any('texte? body comment content message comentario commentaire kommentar 评论 内容')}"
            rf"(_message|_text)?|(comment|customer)_?{_REVIEW}?_?(text|message|body)|{_REVIEW}|评论内容|rezensionstext"
            "|bewertungstext|testo|texto",
            r"(.*_)?(text|body|comment|summary|sentence|description|kommentar|message)s?",
        ),
        "reviewed_at": Names(
            rf"{_REVIEW}(ed)?_?{_TIME}(_.*)?|(unix_)?{_REVIEW}_{_TIME}|{_REVIEW}_(creation|answer|submission)_{_TIME}",
            rf"{ONLY_TIME}|{_CREATED}|unix_.*|(.*_)(date|datum|time|timestamp|日期|时间)(_.*)?"
            "|(geschrieben|erstellt)(_am)?",
        ),
    },
    "searches": {
        "user_id": Names(_USER.strong, _USER.weak + "|session(_id)?"),
        "query": Names(
            r"(search_?)?(query|term|phrase|keywords?|string|words?)(_text)?|"
            + _any("suchbegriff suchanfrage suche search q recherche busqueda 搜索词 关键词 搜索"),
            r"(.*_)?(query|search|keyword|term)(_.*)?",
        ),
        "searched_at": Names(rf"{_SEARCH}(ed)?_?{_TIME}", rf"{ONLY_TIME}|{_CREATED}|(.*_){_TIME}"),
        "clicked_item_id": Names(
            rf"click(ed)?_?{_ITEM}(_?{_ID})?", rf"{_ITEM}(_?{_ID})?|{_ITEM}_uid|(.*_)?click(ed)?(_.*)?(id|sku|item)"
        ),
    },
    "questions": {
        "question_id": Names(rf"(question|ticket|inquiry|enquiry|anfrage|frage|request)_?{_ID}", "id|conversation_id"),
        "user_id": _USER,
        "text": Names(
            "(question|frage|anfrage|instruction|inquiry)(_?text)?|问题",
            "(.*_)?(text|body|message|subject|query|content)",
        ),
        "asked_at": Names(rf"(asked|question|ticket|frage)_?{_TIME}", rf"{ONLY_TIME}|{_CREATED}|(.*_){_TIME}"),
        "answer": Names(
            "(answer|response|reply|antwort|reponse|respuesta|回答|答案)(_?text)?", "(.*_)?(answer|response|reply)"
        ),
        "article_id": Names(rf"(help_|faq_|kb_)?(article|faq|document)_?{_ID}"),
        "answered_at": Names(
            rf"(answered|replied|responded|solved)_?{_TIME}", rf"(.*_)?(answer|response|solved)_.*{_TIME}"
        ),
    },
    "articles": {
        "article_id": Names(rf"(article|faq|document|doc|page|kb)_?{_ID}|id", "url|slug"),
        "title": Names("(article_)?(title|titel|heading|headline|subject|question)", "name"),
        "body": Names("(article_)?(body|content|text|html|answer|inhalt)", "(.*_)?(body|text|content)"),
    },
    "optouts": {"user_id": _USER},
    "events": {
        "user_id": _USER,
        "item_id": _ITEM_ID,
        "kind": Names("(event_?|action_?|behaviou?r_?)(type|name|kind)?|kind|行为|行为类型", "type|action|activity"),
        "happened_at": Names(rf"(event|happened|action)_?{_TIME}", rf"{ONLY_TIME}|{_CREATED}|(.*_){_TIME}"),
    },
    "customers": {"user_id": Names(_USER.strong, _USER.weak + "|id")},
}
#: What files of each table are called.
FILE_NAMES = {
    "purchases": _any(
        "order purchase transaction sale invoice bestell kauf umsatz pedido commande vente basket line retail 订单 购买"
    ),
    "items": _any("item product catalog katalog artikel article produkt produit sku titles inventory 商品 产品"),
    "reviews": _any("review rating bewertung rezension feedback avis resena opinion comment 评论 评价"),
    "searches": _any("search quer(y|ies) click such recherche 搜索"),
    "questions": _any("question ticket support frage inquir 问题"),
    "articles": _any("faq help article knowledge hilfe 帮助"),
    "optouts": _any("opt_?out unsubscrib suppress blacklist abmeld widerspr gdpr dsgvo 退订"),
    "events": _any("events? clickstream views? pageviews? carts? wish behaviou?r 行为"),
    "customers": _any("customer client user member kunde cliente? usuario utilisateur klant 用户 客户 会员 顾客"),
}


def normalise(name: str) -> str:
    """Return the name in lower case, without accents, with _ between its words; camelCase ends a word."""
    text = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    return re.sub(r"[\W_]+", "_", text.lower()).strip("_")


#: What values of customers, orders and times have and names of columns do not.
_LIKE_VALUE = re.compile(r"\d{3}|@|\d[-/.:]\d|^[\W\d_]*$")


def are_names(columns: Sequence[str]) -> bool:
    """Return whether these are names of columns, and not the first row of a file without a header.

    One of them is a name that shops give to columns, and none looks like a value. When in doubt they are no names.
    """
    known = [names for table in COLUMN_NAMES.values() for names in table.values()]
    is_known = any(names.score(normalise(column)) for column in columns for names in known)
    return is_known and not any(_LIKE_VALUE.search(column) for column in columns)
