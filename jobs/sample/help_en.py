"""The sample shop's English help articles and questions about them; {order}, {product} and {n} are filled in."""

from __future__ import annotations

from typing import NamedTuple


class Help(NamedTuple):
    """One intent: the article that answers it and the questions that customers ask."""

    intent: str
    title: str
    body: str
    questions: tuple[str, ...]


# fmt: off
ENGLISH_HELP = (
    Help("track_order", "Track an order",
         "Open Your orders and choose Track parcel. The link in the dispatch e-mail shows the same page. "
         "Tracking starts to move within 24 hours of dispatch. If nothing has moved for 5 working days, contact "
         "us and we will open a search with the carrier.",
         ("Where is my order {order}?", "My parcel {order} has not moved for {n} days, where is it?",
          "How can I track order {order}?", "I have not received the {product}, can you tell me where it is?",
          "Tracking number for {order} please")),
    Help("delivery_time", "Delivery times and costs",
         "Standard delivery takes 2 to 4 working days and costs 3.99, free from 30.00. Express delivery arrives "
         "on the next working day for orders before 3 pm and costs 6.99. We do not deliver on bank holidays.",
         ("How long does delivery take?", "When will the {product} arrive if I order today?",
          "What does express shipping cost?", "Is delivery free above a certain amount?")),
    Help("delivery_abroad", "Delivery to other countries",
         "We deliver to the European Union, Norway and Switzerland within 5 to 9 working days. Customs duties "
         "are paid at the checkout. Goods with lithium batteries and aerosols cannot be sent abroad.",
         ("Do you ship to Germany?", "Can I have the {product} sent to France?",
          "How much is international delivery and do I pay customs?")),
    Help("change_address", "Change the delivery address",
         "Until an order is packed, the address can be changed under Your orders, Change address. After that "
         "the carrier's link in the dispatch e-mail lets you choose a neighbour, a parcel shop or another day.",
         ("I gave the wrong address for order {order}", "Can I change the delivery address of {order}?",
          "I have moved house, please send {order} to my new address")),
    Help("cancel_order", "Cancel an order",
         "Choose Cancel under Your orders. Orders that are not yet packed are cancelled at once and the money "
         "is released within 2 working days. A packed order cannot be stopped: refuse the parcel or return it.",
         ("I want to cancel order {order}", "How do I cancel? I ordered the {product} by mistake",
          "Please stop {order}, I do not need it any more")),
    Help("return_item", "Return an item",
         "You may return unused goods within 30 days. Choose Return under Your orders, print the label and hand "
         "the parcel in at any parcel shop. Opened cosmetics, food and nappies cannot be returned for hygiene.",
         ("How do I return the {product}?", "I want to send {order} back",
          "How many days do I have to return something?", "Can I return an opened {product}?",
          "Return label for {order}")),
    Help("refund_status", "When refunds arrive",
         "We refund within 3 working days of the parcel's arrival in our warehouse. Card payments take another "
         "3 to 5 working days to appear on your statement, gift cards are credited at once.",
         ("I returned {order} {n} days ago, where is my refund?",
          "When do I get my money back for the {product}?", "The refund for {order} is not on my account yet")),
    Help("exchange_item", "Exchange for another size or colour",
         "We do not exchange directly: return the item free of charge and order the other size or colour. To "
         "keep a sale price, write to us before you order and we will honour it.",
         ("Can I swap the {product} for another size?", "The {product} is too small, can I exchange it?",
          "Wrong colour ordered in {order}, how do I exchange?")),
    Help("damaged_item", "Damaged or faulty on arrival",
         "We are sorry. Send us one photo of the item and one of the parcel within 14 days through Your orders, "
         "Report a problem. You may choose a replacement or a refund, and need not return goods below 20.00.",
         ("The {product} arrived broken", "My parcel {order} was damaged and so is the {product}",
          "The {product} does not work, it was faulty out of the box")),
    Help("missing_item", "An item is missing from the parcel",
         "Large orders travel in several parcels: look at Your orders whether one is still on the way. If all "
         "have arrived and something is missing, report it within 7 days and we will send it again.",
         ("Something is missing from order {order}", "I only received half of {order}",
          "The {product} was not in the box")),
    Help("wrong_item", "The wrong item was delivered",
         "Report it under Your orders with a photo of the label. We send the right item at once, and a prepaid "
         "label for the wrong one. You need not wait until we have it back.",
         ("You sent me the wrong item in {order}", "I ordered the {product} but got something else",
          "This is not what I ordered")),
    Help("payment_methods", "Ways to pay",
         "We take Visa, Mastercard, American Express, PayPal, Apple Pay, Google Pay and our gift cards. Payment "
         "by instalments is offered from 50.00. We do not take cheques or cash on delivery.",
         ("Which payment methods do you accept?", "Can I pay with PayPal?",
          "Can I pay for the {product} in instalments?")),
    Help("payment_declined", "A card payment was declined",
         "Most often the bank asked for a confirmation that timed out. Try again and confirm in your bank's "
         "app, check the expiry date and the billing address, or choose another way to pay. No money has been "
         "taken.",
         ("My card was declined, why?", "Payment failed for {order} but the money left my account",
          "I cannot pay, it says transaction refused")),
    Help("invoice", "Invoices and receipts",
         "An invoice for each order can be downloaded as PDF under Your orders, Invoice, from the day of "
         "dispatch. To have a company name or VAT number on it, add them to your account before you order.",
         ("I need an invoice for {order}", "Where can I download the receipt for the {product}?",
          "Please send me a VAT invoice for order {order}")),
    Help("discount_code", "Discount codes",
         "Enter the code at the checkout under Add a code. Only one code can be used for an order, not for gift "
         "cards nor for goods already reduced. A code that has expired cannot be extended.",
         ("My discount code does not work", "How do I use a voucher code?",
          "I forgot to enter my code for {order}")),
    Help("gift_card", "Gift cards",
         "Gift cards from 10.00 to 250.00 arrive by e-mail within minutes and are valid for 24 months. Redeem "
         "them at the checkout; what is left stays on the card. The balance is shown under Account, Gift cards.",
         ("How do I redeem a gift card?", "What is left on my gift card?", "Can I buy a gift card for a friend?")),
    Help("loyalty_points", "Loyalty points",
         "You earn one point for each pound spent. From 200 points you can turn them into a voucher of 5.00 "
         "under Account, Points. Points are added 14 days after delivery and expire after two years.",
         ("How many loyalty points do I have?", "I did not get points for {order}", "How do I spend my points?",
          "When do my points expire?")),
    Help("reset_password", "Forgotten password",
         "Choose Forgotten password on the sign-in page. The link that we send is valid for one hour; look in "
         "the spam folder too. After five wrong attempts the account is locked for 30 minutes.",
         ("I forgot my password", "I cannot log in to my account", "The password reset e-mail never arrives")),
    Help("change_email", "Change your e-mail address or phone number",
         "Go to Account, Contact details. We send a code to the new address or number, which you confirm within "
         "15 minutes. Orders already placed keep the old address.",
         ("How can I change my e-mail address?", "I have a new phone number, how do I update it?",
          "My account still has my old e-mail")),
    Help("delete_account", "Delete your account and data",
         "Under Account, Privacy you can download or delete your data. Deletion takes 30 days and cannot be "
         "undone; invoices are kept for as long as the law requires. Open orders must be finished first.",
         ("Please delete my account", "How do I have my personal data removed?",
          "What data do you hold about me?")),
    Help("newsletter", "Newsletter and messages",
         "Unsubscribe by the link at the end of each newsletter, or under Account, Messages. It takes effect "
         "within two days. Messages about your orders are always sent.",
         ("How do I unsubscribe from the newsletter?", "Stop sending me e-mails",
          "I get too many messages from you")),
    Help("warranty", "Warranty and repairs",
         "All electrical goods have a warranty of two years. Report the fault under Your orders, Warranty, and "
         "send the item in free of charge. Repairs take 10 working days; what cannot be repaired is replaced.",
         ("My {product} stopped working after {n} months, is it under warranty?",
          "How long is the warranty on the {product}?", "Can you repair the {product}?")),
    Help("compatibility", "Which accessories and refills fit",
         "Each product page has a list Fits with. Enter your model there and it says yes or no. If a part that "
         "is listed as fitting does not fit, we take it back opened and pay the postage.",
         ("Does the {product} fit my old one?", "Which cartridge fits my printer?",
          "Is the {product} compatible with other brands?", "Which case do I need for my phone?")),
    Help("back_in_stock", "Items out of stock",
         "Choose Tell me on the product page and we send one message when it is back. Most items return within "
         "three weeks. An item marked as discontinued will not come back.",
         ("When will the {product} be back in stock?", "Is the {product} discontinued?",
          "Can I reserve the {product}?")),
    Help("collect_in_store", "Collect in a shop",
         "Choose Collect at the checkout. Most orders are ready within two hours; we send a message with a "
         "code. Bring the code and an identity card. We keep the parcel for 7 days.",
         ("Can I collect {order} in a shop?", "How long do you keep a parcel for collection?",
          "Can someone else pick up {order} for me?")),
    Help("talk_to_someone", "Talk to us",
         "Chat is open from 8 am to 8 pm on every day, the phone from 9 am to 6 pm on working days. Complaints "
         "are answered by a person within two working days, with a reference number.",
         ("I want to talk to a human", "How can I call you?", "I want to make a complaint about {order}",
          "Nobody answers my messages")),
)
# fmt: on

#: Questions that no article answers.
BEYOND_HELP = (
    "Are you hiring drivers at the moment?", "Would you sponsor our football club?", "Who designed the {product}?",
    "Do you buy used bicycles?", "Is the {product} made by hand?",
)  # fmt: skip
