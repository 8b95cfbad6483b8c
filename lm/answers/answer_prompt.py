"""The prompt of one question: the best article, the customer's own orders and reviews, and the question.

    Article: Cancel an order
      Choose Cancel under Your orders. ...
    Order: A0000042-003 | 2026-02-11 | Argan oil shampoo 250ml
    Review: 2/5 | Argan oil shampoo 250ml | leaked in the post
    Question: Please stop A0000042-003, I do not need it any more
    Answer:

Customers' words are redacted and put on one line, and articles are indented, so no text can forge a line of the prompt.
The prompt alone decides the answer, so its facts are parsed from it (`prompt_parts`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from lm.answers.fact_slots import PromptPart, Slots, SlotTokenizer, fill_slots
from lm.answers.grounding import has_cjk
from lm.redaction.redact import redact
from lm.text.template import clean

ARTICLE, ORDER, REVIEW, QUESTION, CUE = "Article: ", "Order: ", "Review: ", "Question: ", "Answer:"
#: Most order lines and review lines of a prompt, and most products of an order line.
PROMPT_ORDERS, PROMPT_REVIEWS, ORDER_PRODUCTS = 3, 2, 6
QUESTION_CHARACTERS, REVIEW_CHARACTERS, ARTICLE_CHARACTERS = 600, 160, 6000

#: The space between two sentences; the number of a list's step does not end a sentence.
_SENTENCE_END = re.compile(r"(?<=[^\d\s][.!?])\s+(?=\S)|(?<=[。！？])(?=\S)")
#: Characters that are searched for the start of a question's tail, and clean characters on each side of it.
_SEARCHED, _MARGIN = 256, 4
_IN_ADDRESSES = "@＠+_-/()"
_KEPT = "\ue000"  # private use: replaces an order number while the text around it is redacted


class Article(NamedTuple):
    """One help article."""

    article_id: str
    title: str
    body: str


class Order(NamedTuple):
    """One of the customer's own orders: its id or "", `ordered_on` as YYYY-MM-DD, the titles of its products."""

    order_id: str
    ordered_on: str
    titles: tuple[str, ...]


class OwnReview(NamedTuple):
    """One of the customer's own reviews; `rating` in stars."""

    rating: int | None
    title: str
    text: str


class CustomerFacts(NamedTuple):
    """The orders and reviews of the asking customer as of the question's time, newest first."""

    orders: tuple[Order, ...] = ()
    reviews: tuple[OwnReview, ...] = ()


class AnswerPair(NamedTuple):
    """A rendered prompt and the answer that staff gave."""

    prompt: str
    answer: str


def redacted(question: str, customer: CustomerFacts, limit: int = QUESTION_CHARACTERS) -> str:
    """About `limit` characters of a question, on one line and without personal data.

    Of a longer question the beginning and the end are kept. The customer's own order numbers stay.
    """
    if len(question) > limit and (start := _tail_start(question, limit // 3)):
        head = _redacted(question[:start], customer, limit - limit // 3)
        return f"{head} … {_redacted(question[start:], customer, limit // 3)}"
    return _redacted(question, customer, limit)


def _tail_start(text: str, length: int) -> int | None:
    """A position near the last `length` characters at which no number and no address is cut; None if there is none."""
    for place in range(len(text) - length, max(0, len(text) - length - _SEARCHED), -1):
        around = text[place - _MARGIN : place + _MARGIN]
        is_boundary = text[place - 1].isspace() or (has_cjk(text[place - 1]) and has_cjk(text[place]))
        if is_boundary and not any(character.isdigit() or character in _IN_ADDRESSES for character in around):
            return place
    return None


def _redacted(question: str, customer: CustomerFacts, limit: int) -> str:
    """The first `limit` characters of a text, on one line and without personal data but own order numbers."""
    question = question.replace(_KEPT, " ")
    own = [order.order_id for order in customer.orders if order.order_id and order.order_id in question]
    kept: list[str] = []
    if own:
        longest_first = "|".join(re.escape(number) for number in sorted(own, key=len, reverse=True))
        # A part of a longer number is not the customer's order.
        pattern = re.compile(rf"(?<![A-Za-z0-9])(?:{longest_first})(?![A-Za-z0-9])")
        kept = pattern.findall(question)
        question = pattern.sub(_KEPT, question)
    question = clean(redact(question, limit=limit, orders=False))
    for number in kept:
        question = question.replace(_KEPT, number, 1)
    return question


def render_prompt(
    question: str, article: Article, customer: CustomerFacts, tokenizer: SlotTokenizer, budget: int
) -> str:
    """The prompt of a redacted question in at most `budget` tokens.

    Left out in this order until it fits: reviews, orders that the question does not name, the article's last lines,
    the middle of the question, the end of the title. Raises ValueError where not even the labels fit.
    """
    named = [order for order in customer.orders if order.order_id and order.order_id in question]
    others = [order for order in customer.orders if order not in named]
    orders = [*named, *others][: max(PROMPT_ORDERS, len(named[:PROMPT_ORDERS]))]
    optional = [_order(order) for order in orders]
    optional += [_review(review) for review in customer.reviews[:PROMPT_REVIEWS]]
    body = _body(article.body)
    title = clean(article.title)
    least = min(len(named), len(optional))
    while True:
        prompt = "".join([ARTICLE, title, "\n", *body, *optional, QUESTION, question, "\n", CUE])
        if len(encode(prompt, tokenizer)[0]) <= budget:
            return prompt
        if len(optional) > least:
            optional.pop()
        elif body:
            body = _shortened(body)
        elif len(question) > 1:
            question = _shortened_question(question)
            optional, least = [], 0
        elif title:
            title = title[: len(title) * 3 // 4]
        else:
            raise ValueError(f"{budget} tokens cannot hold a prompt: allow more with answers.prompt_tokens")


def encode(prompt: str, tokenizer: SlotTokenizer) -> tuple[list[int], Slots]:
    """The token ids of a prompt, and the slots that an answer may use."""
    return encode_many([prompt], tokenizer)[0]


def encode_many(prompts: Sequence[str], tokenizer: SlotTokenizer) -> list[tuple[list[int], Slots]]:
    """`encode` of many prompts."""
    filled = [fill_slots(prompt_parts(prompt)) for prompt in prompts]
    ids = tokenizer.encode_many([pieces for pieces, _ in filled])
    return [(one, slots) for one, (_, slots) in zip(ids, filled, strict=True)]


def prompt_parts(prompt: str) -> list[PromptPart]:
    """The parts of a prompt in its order: the article, the customer's facts, and the question."""
    article, facts, question = [], [], []
    titles: list[str] = []
    for line in prompt.split("\n"):
        if line.startswith((ORDER, REVIEW)):
            fields = line.partition(": ")[2].split(" | ", -1 if line.startswith(ORDER) else 2)
            known = fields if line.startswith(ORDER) else fields[:2]
            titles += known[2:] if line.startswith(ORDER) else known[1:]
            own_words = "" if line.startswith(ORDER) or len(fields) < 3 else f" {fields[2]}"
            facts.append(PromptPart(line.removesuffix(own_words), "f", tuple(field for field in known if field)))
            facts.append(PromptPart(own_words + "\n", "q"))
        elif line.startswith((ARTICLE, "  ")):
            article.append(line.removeprefix("  "))
        else:
            question.append(line)
    # A title in the question is the product of the order.
    named = tuple(title for title in titles if title)
    return [PromptPart("\n".join(article) + "\n", "a"), *facts, PromptPart("\n".join(question), "q", named)]


def article_of(prompt: str) -> str:
    """The text of a prompt's article."""
    return prompt_parts(prompt)[0].text


def shop_facts(prompt: str) -> str:
    """The lines of a prompt that state what the shop knows of the customer, without the customer's own words."""
    return "\n".join(part.text for part in prompt_parts(prompt) if part.letter == "f")


def _body(body: str) -> list[str]:
    """The indented lines of an article."""
    return [f"  {text}\n" for line in body[:ARTICLE_CHARACTERS].split("\n") if (text := clean(line))]


def _shortened(body: list[str]) -> list[str]:
    """The lines of an article without its last sentence."""
    cut = [match.start() for match in _SENTENCE_END.finditer(body[-1].rstrip())]
    return [*body[:-1], body[-1][: cut[-1]].rstrip() + "\n"] if cut else body[:-1]


def _shortened_question(question: str) -> str:
    """Three quarters of a question: its beginning and its end."""
    kept = len(question) * 3 // 4 - 3
    if kept < 30:
        return question[: len(question) * 3 // 4].rstrip()
    return f"{question[: kept * 2 // 3].rstrip()} … {question[len(question) - kept // 3 :].lstrip()}"


def _field(text: str) -> str:
    return clean(text).replace(" | ", " / ")


def _order(order: Order) -> str:
    titles = [_field(title) for title in dict.fromkeys(order.titles)][:ORDER_PRODUCTS]
    return ORDER + " | ".join([_field(order.order_id), order.ordered_on, *titles]) + "\n"


def _review(review: OwnReview) -> str:
    stars = "-" if review.rating is None else f"{review.rating}/5"
    text = _field(redact(review.text, limit=REVIEW_CHARACTERS))
    return REVIEW + " | ".join([stars, _field(review.title), text]) + "\n"
