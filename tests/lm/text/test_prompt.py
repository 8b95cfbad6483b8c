import json
import re

import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lm.checkpoint.checkpoint import CheckpointError
from lm.checkpoint.manifest import Manifest
from lm.text import line_encoder
from lm.text.prompt import LINE_TOKENS, Event, PromptEncoder
from tests.models import save_causal, train_tokenizer
from tests.texts import TEXTS

TOKENIZER = train_tokenizer()
FIRST = TOKENIZER.get_vocab_size()
ITEMS = ["a", "b", "85123A", "x|>\n<|item:a|>", "商品"]


def encoder(coding: str = "titles", language: str = "en", context_tokens: int = 1024) -> PromptEncoder:
    codes = {"item_ids": ITEMS, "first_item_token": FIRST} if coding == "item_tokens" else {}
    manifest = Manifest.model_validate({"coding": coding, "language": language, **codes})
    return PromptEncoder(TOKENIZER, manifest, context_tokens=context_tokens)


ENCODERS = {(c, lang): encoder(c, lang) for c in ("titles", "item_tokens") for lang in ("en", "zh")}
KINDS = st.sampled_from(sorted(ENCODERS))
EVENTS = st.builds(
    Event,
    st.sampled_from(["bought", "searched", "reviewed"]),
    st.sampled_from([*ITEMS, "unknown"]),
    st.one_of(st.none(), TEXTS),
    st.one_of(st.none(), TEXTS),
    st.one_of(st.none(), st.integers(1, 5)),
)
HISTORIES = st.lists(EVENTS, max_size=12)


def of_one_token(enc, history):
    return [event for event in history if event.kind == "bought" and event.item_id in enc.item_tokens]


def readable(event):
    """The event as a Parquet file can hold it: UTF-8 knows no lone surrogates."""
    texts = {name: None if value is None else value.encode("utf-8", "ignore").decode() for name, value in
             (("title", event.title), ("text", event.text))}  # fmt: skip
    return event._replace(**texts)


@given(KINDS, HISTORIES, st.integers(24, 400))
@settings(max_examples=300, deadline=None)
def test_tokens_are_counted_exactly_and_within_the_budget(kind, history, budget):
    enc = ENCODERS[kind]
    rendered = enc.render(history, budget)
    assert rendered.tokens == len(enc.encode(rendered.prompt)) <= budget
    assert rendered.events_used + rendered.events_dropped == len(history)
    assert rendered.prompt.startswith(enc.header)
    assert rendered.prompt.endswith(enc.cue)
    assert rendered.prompt.count("\n") == rendered.events_used + 1
    assert all(line == line.strip() for line in rendered.prompt.split("\n"))
    rendered.prompt.encode()  # no surrogate survives


@given(KINDS, HISTORIES, st.integers(24, 400))
@settings(max_examples=200, deadline=None)
def test_the_newest_events_that_fit_are_kept(kind, history, budget):
    enc = ENCODERS[kind]
    purchases, others = of_one_token(enc, history), [e for e in history if e not in of_one_token(enc, history)]
    rendered = enc.render(history, budget)
    assume(enc.render(history, 10**6).events_dropped == 0)
    kept = rendered.prompt.count("\n") - 1 - len(purchases)  # budgets here hold every purchase of one token
    if kept > 1:
        whole = enc.render([*others[-kept:], *purchases], 10**6)
        assert rendered.prompt == whole.prompt
    if rendered.events_dropped and kept > 0:
        one_more = enc.render([*others[-kept - 1 :], *purchases], 10**6)
        assert one_more.tokens > budget


@given(KINDS, HISTORIES, st.integers(24, 400))
@settings(max_examples=100, deadline=None)
def test_the_prompt_is_encoded_line_by_line(kind, history, budget):
    enc = ENCODERS[kind]
    prompt = enc.render(history, budget).prompt
    parts = re.findall(r"[^\n]*\n|[^\n]+", prompt)
    assert enc.encode(prompt) == [token for part in parts for token in enc.encode(part)]


@given(KINDS, st.lists(HISTORIES, max_size=4), st.integers(24, 200))
@settings(max_examples=60, deadline=None)
def test_many_at_once_equal_one_by_one(kind, histories, budget):
    together = encoder(*kind).render_many(histories, budget)
    assert together == [encoder(*kind).render(history, budget) for history in reversed(histories)][::-1]
    prompts = [rendered.prompt for rendered in together]
    assert encoder(*kind).encode_many(prompts) == [encoder(*kind).encode(prompt) for prompt in prompts]


@given(KINDS, st.lists(st.lists(st.builds(readable, EVENTS), max_size=8), max_size=4), st.integers(24, 200))
@settings(max_examples=60, deadline=None)
def test_histories_in_arrow_give_the_same_prompts(kind, histories, budget):
    enc = ENCODERS[kind]
    fields = [(name, pa.int32() if name == "rating" else pa.string()) for name in Event._fields]
    dicts = [[event._asdict() for event in history] for history in [[], *histories]]
    rows = pa.array(dicts, pa.list_(pa.struct(fields)))
    found = enc.render_columns(enc.histories(rows.slice(1)), budget)
    expected = enc.render_many(histories, budget)
    columns = zip(found.prompt.to_pylist(), found.tokens.tolist(), found.events_used.tolist(), strict=True)
    assert list(columns) == [tuple(one[:3]) for one in expected]


@given(st.lists(TEXTS, min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_customers_can_forge_neither_markers_nor_lines(texts):
    enc = ENCODERS["item_tokens", "en"]
    history = [Event("searched", text=text) for text in texts]
    history += [Event("reviewed", "unknown", text, text, 5) for text in texts]
    rendered = enc.render(history, 960)
    assert "<|" not in rendered.prompt
    assert max(enc.encode(rendered.prompt)) < FIRST
    assert TOKENIZER.token_to_id("<|endoftext|>") not in enc.encode(rendered.prompt)
    for line in rendered.prompt.splitlines()[1:]:
        assert line.startswith(("Searched:", "Reviewed 5/5:"))


@given(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=30))
def test_item_tokens_round_trip(items):
    enc = ENCODERS["item_tokens", "en"]
    rendered = enc.render([Event("bought", item, "ignored") for item in items], 256)
    ids = enc.encode(rendered.prompt)[len(enc.encode(enc.header)) :]
    assert [ITEMS[token - FIRST] for token in ids] == items
    assert rendered.events_used == len(items)


def test_english_template():
    history = [
        Event("bought", "a", "Inkjet  printer\n"),
        Event("searched", text="ink for my printer"),
        Event("reviewed", "a", "Inkjet printer", "Quiet", 5),
        Event("reviewed", "a", "Inkjet printer", None, None),
        Event("bought", "b", ""),
    ]
    assert ENCODERS["titles", "en"].render(history, 256).prompt == (
        "Customer history\n"
        "Bought: Inkjet printer\n"
        "Searched: ink for my printer\n"
        "Reviewed 5/5: Inkjet printer: Quiet\n"
        "Reviewed: Inkjet printer\n"
        "Bought: b\n"
        "Bought:"
    )


def test_chinese_template():
    history = [
        Event("bought", "a", "喷墨打印机"),
        Event("searched", text="墨盒"),
        Event("reviewed", "a", "喷墨打印机", "安静", 5),
        Event("reviewed", "a", "喷墨打印机", "安静", None),
    ]
    assert ENCODERS["titles", "zh"].render(history, 256).prompt == (
        "顾客记录\n购买：喷墨打印机\n搜索：墨盒\n评价5/5：喷墨打印机：安静\n评价：喷墨打印机：安静\n购买："
    )


def test_item_token_template_falls_back_to_text_for_new_products():
    history = [Event("bought", "a", "Inkjet printer"), Event("reviewed", "a", "Inkjet printer", "Quiet", 5)]
    history += [Event("bought", "new", "Black ink")]
    assert ENCODERS["item_tokens", "en"].render(history, 256).prompt == (
        "Customer history\nReviewed 5/5: <|item:a|>: Quiet\nBought: Black ink\n<|item:a|>\n"
    )


def test_purchases_of_one_token_are_taken_first_and_stand_last():
    enc = ENCODERS["item_tokens", "en"]
    history = [Event("bought", "a"), Event("searched", text="ink"), Event("bought", "b"), Event("searched", text="tea")]
    assert enc.render(history, 256).prompt == (
        "Customer history\nSearched: ink\nSearched: tea\n<|item:a|>\n<|item:b|>\n"
    )
    room = len(enc.encode("Searched: tea\n"))
    assert enc.render(history, enc.smallest_budget + 2 + room).prompt == (
        "Customer history\nSearched: tea\n<|item:a|>\n<|item:b|>\n"
    )
    shortest = enc.render(history, enc.smallest_budget + 1)
    assert shortest.prompt == "Customer history\n<|item:b|>\n"
    assert (shortest.events_used, shortest.events_dropped) == (1, 3)


def test_a_marker_inside_a_review_is_one_token():
    enc = ENCODERS["item_tokens", "en"]
    ids = enc.encode("Reviewed 5/5: <|item:b|>: Quiet\n")
    assert ids == [*enc.encode("Reviewed 5/5: "), FIRST + 1, *enc.encode(": Quiet\n")]
    assert max(enc.encode("<|item:never heard of|>\n")) < FIRST


def test_personal_data_never_reaches_a_prompt():
    text = "ring me on 07911 123456 or a.b@example.com"
    history = [Event("searched", text=text), Event("reviewed", "a", "Inkjet printer", text, 1)]
    prompt = ENCODERS["titles", "en"].render(history, 256).prompt
    assert prompt.count("[PHONE] or [EMAIL]") == 2


def test_an_item_without_any_readable_name_does_not_crash():
    assert ENCODERS["titles", "en"].render([Event("bought", "\ud800", "\x00")], 256).events_used == 1
    assert encoder("item_tokens").render([Event("reviewed", "\ud800")], 256).events_used == 1


def test_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="'returned'"):
        ENCODERS["titles", "en"].render([Event("returned", "a", "t")], 256)


def test_a_budget_below_header_and_cue_is_an_error():
    enc = ENCODERS["titles", "en"]
    assert enc.render([], enc.smallest_budget).prompt == "Customer history\nBought:"
    with pytest.raises(ValueError, match=f"at least {enc.smallest_budget}"):
        enc.render([], enc.smallest_budget - 1)


def test_one_long_event_is_shortened_and_the_rest_dropped():
    enc = ENCODERS["titles", "en"]
    history = [Event("bought", "a", "Inkjet printer"), Event("searched", text="ink cartridge " * 100)]
    rendered = enc.render(history, 40)
    assert (rendered.events_used, rendered.events_dropped) == (1, 1)
    assert rendered.tokens > 35
    assert re.fullmatch(r"Customer history\nSearched:[ a-z]+\nBought:", rendered.prompt)


def test_one_long_review_leaves_room_for_the_rest_of_the_history():
    enc = ENCODERS["titles", "en"]
    history = [Event("bought", "a", "Inkjet printer"), Event("reviewed", "a", "Inkjet printer", "awful " * 500, 1)]
    rendered = enc.render(history, 256)
    assert rendered.events_used == 2
    assert rendered.tokens <= LINE_TOKENS + 60


@given(st.sampled_from(["黑色打印机墨盒", "🙂", "é", "👩‍👩‍👧"]), st.integers(20, 60))
@settings(deadline=None)
def test_text_is_cut_between_characters(unit, budget):
    rendered = ENCODERS["titles", "en"].render([Event("searched", text=unit * 60)], budget)
    assert "\ufffd" not in TOKENIZER.decode(ENCODERS["titles", "en"].encode(rendered.prompt))
    assert rendered.tokens <= budget


def test_a_prompt_and_its_answer_fit_the_context():
    for coding in ("titles", "item_tokens"):
        enc = encoder(coding, context_tokens=64)
        rendered = enc.render([Event("searched", text="ink " * 50)] * 50, 10**6)
        assert rendered.tokens <= 64 - enc.max_answer_tokens
        assert len(enc.answer_tokens("ink " * 500)) <= enc.title_tokens
    assert encoder("item_tokens", context_tokens=64).max_answer_tokens == 1


@given(KINDS, TEXTS)
@example(("titles", "en"), "Argan oil shampoo")
@example(("titles", "zh"), "（新）洗发水")
@settings(max_examples=200, deadline=None)
def test_a_title_is_the_same_tokens_in_a_history_as_in_an_answer(kind, title):
    enc = encoder("titles", kind[1])
    answer = enc.answer_tokens(title)
    assert 1 <= len(answer) <= enc.title_tokens
    assert enc.answers(["first", title, "last"])[1] == answer
    line = enc.render([Event("bought", "", title)], 960).prompt.split("\n")[1] + "\n"
    assert enc.encode(line) == enc.encode(enc.template.bought) + answer
    assert TOKENIZER.decode(answer).endswith("\n")


def test_a_title_is_encoded_apart_from_its_label():
    joins = train_tokenizer(["购买：（新）洗发水", "（新）洗发水", "新）"] * 9)  # would merge ： with （
    enc = PromptEncoder(joins, Manifest(language="zh"))
    assert len(enc.encode_many(["搜索：（新）\n"])[0]) < len(enc.encode("搜索：")) + len(enc.encode("（新）\n"))
    assert enc.encode("购买：（新）洗发水\n") == enc.encode("购买：") + enc.answer_tokens("（新）洗发水")


def test_answers_start_as_the_language_does():
    assert TOKENIZER.decode(ENCODERS["titles", "en"].answer_tokens("Red\tink ")) == " Red ink\n"
    assert TOKENIZER.decode(ENCODERS["titles", "zh"].answer_tokens("洗发水")) == "洗发水\n"


def test_a_megabyte_costs_no_more_than_what_is_used_of_it():
    enc = ENCODERS["titles", "en"]
    history = [Event("searched", text="ink 1234567 " * 100_000), Event("bought", "a", "printer " * 200_000)]
    history += [Event("reviewed", "a", "<| " * 400_000, "a@b.c " * 200_000, 5)]
    assert [enc.render([event], 256).events_used for event in history] == [1, 1, 1]
    assert enc.encode_reviews(["a@b.c 07911 123456 " * 60_000], 64)[0][1]


def test_a_full_cache_starts_anew_and_changes_nothing(monkeypatch):
    history = [Event("bought", str(i), f"Cotton T-shirt number {i}") for i in range(50)]
    expected = encoder().render(history, 512)
    monkeypatch.setattr(line_encoder, "CACHE_TOKENS", 100)
    monkeypatch.setattr("lm.text.prompt.CACHED_EVENTS", 3)
    enc = encoder()
    for _ in range(3):
        assert enc.render(history, 512) == expected
        assert len(enc.encode(expected.prompt)) == expected.tokens


def test_load_reads_context_coding_and_language(tmp_path):
    model = save_causal(tmp_path / "m", item_ids=["a", "b"], n_positions=128)
    enc = PromptEncoder.load(model)
    assert (enc.context_tokens, enc.item_tokens, enc.cue) == (128, {"a": 400, "b": 401}, "")
    stock = save_causal(tmp_path / "stock", stock=True, n_positions=64)
    assert PromptEncoder.load(stock, language="zh").cue == "购买："
    assert PromptEncoder.load(stock).cue == "Bought:"


def test_tokenizer_of_another_model_is_an_error(tmp_path):
    model = save_causal(tmp_path / "m")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    with pytest.raises(CheckpointError, match="different models"):
        PromptEncoder.load(model)
