"""Writes the answers of the sample shop's staff: most sentences of the article between phrases of their own."""

from __future__ import annotations

import re

from jobs.sample.help_en import Help
from jobs.sample.random import Dice

_HELLO = (
    "Hello, thank you for your message.", "Hi, thanks for getting in touch.", "Thank you for writing to us.", "Hello!",
)  # fmt: skip
_ABOUT_ORDER = (
    "I have looked at your order {order}.", "I am happy to help with order {order}.",
    "This is about your order {order}.",
)  # fmt: skip
_ABOUT_PRODUCT = ("I am happy to help with the {product}.", "This is about the {product}.")
_SORRY = ("I am sorry for the trouble.", "We are sorry about that.")
_CLOSING = (
    "Please write again if anything is unclear.", "I hope this helps.", "Have a nice day!", "Let us know how it went.",
)  # fmt: skip
_HELLO_ZH = ("您好，感谢您的来信。", "您好，很高兴为您服务。", "您好！")
_ABOUT_ORDER_ZH = ("已为您查看订单{order}。", "关于您的订单{order}：")
_ABOUT_PRODUCT_ZH = ("关于您购买的{product}：", "关于{product}：")
_SORRY_ZH = ("给您带来不便，非常抱歉。", "很抱歉。")
_CLOSING_ZH = ("如有疑问请再联系我们。", "希望对您有帮助。", "祝您购物愉快！")
_TROUBLE = frozenset({"damaged_item", "missing_item", "wrong_item", "payment_declined", "track_order", "refund_status"})
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")


def reply(dice: Dice, intent: Help, asked: str, order: str, product: str, chinese: bool) -> str:
    """Write an answer from the intent's article that names the order or product that the question names."""
    hello, about_order, about_product, sorry, closing = (
        (_HELLO_ZH, _ABOUT_ORDER_ZH, _ABOUT_PRODUCT_ZH, _SORRY_ZH, _CLOSING_ZH)
        if chinese
        else (_HELLO, _ABOUT_ORDER, _ABOUT_PRODUCT, _SORRY, _CLOSING)
    )
    said = [dice.pick(hello)]
    if order in asked:
        said.append(dice.pick(about_order).format(order=order))
    elif product in asked and dice.chance(60):
        said.append(dice.pick(about_product).format(product=product))
    if intent.intent in _TROUBLE and dice.chance(70):
        said.append(dice.pick(sorry))
    sentences = [sentence for sentence in _SENTENCE.split(intent.body) if sentence]
    # Staff sometimes leave out a sentence, but never the first one.
    said += sentences[:1] + [sentence for sentence in sentences[1:] if dice.chance(85)]
    if dice.chance(60):
        said.append(dice.pick(closing))
    return ("" if chinese else " ").join(said)
