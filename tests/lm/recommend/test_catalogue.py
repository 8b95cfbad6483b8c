import json
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lm.checkpoint.manifest import Manifest
from lm.recommend import catalogue
from lm.recommend.catalogue import Catalogue, CatalogueError, catalogue_version, plain_title
from lm.recommend.trie import Trie
from lm.text.prompt import PromptEncoder
from tests.models import train_tokenizer

TOKENIZER = train_tokenizer()
FIRST = TOKENIZER.get_vocab_size()
SEQUENCES = st.lists(st.lists(st.sampled_from([0, 1, 2, 50256]), max_size=6).map(tuple), max_size=25)
SHOP = {
    "b2": "Black ink cartridge",
    "a1": "Inkjet printer",
    "c3": "Black ink",
    "d4": "Black ink cartridge",
    "e5": "黑色墨盒",
    "f6": "",
    "g7": "Black  ink\n",
}


def encoder(item_ids: tuple[str, ...] = (), language: str = "en", context_tokens: int = 1024) -> PromptEncoder:
    codes = {"coding": "item_tokens", "item_ids": list(item_ids), "first_item_token": FIRST} if item_ids else {}
    manifest = Manifest.model_validate({"language": language, **codes})
    return PromptEncoder(TOKENIZER, manifest, context_tokens=context_tokens)


def trie_of(sequences) -> Trie:
    tokens = np.array([token for sequence in sequences for token in sequence], np.int32)
    return Trie.build(tokens, np.array([len(sequence) for sequence in sequences], np.int64))


def walk(trie: Trie, node: int = 0, path: tuple[int, ...] = ()):
    """Every (path, node) of the trie, by its edges alone."""
    yield path, node
    for edge in range(trie.ptr[node], trie.ptr[node + 1]):
        yield from walk(trie, int(trie.child[edge]), (*path, int(trie.token[edge])))


@given(SEQUENCES)
@example([])
@example([()])
@example([(1,), (1, 2), (1, 2), (1, 2, 0)])
@settings(max_examples=300, deadline=None)
def test_trie_equals_a_dictionary_of_prefixes(sequences):
    trie = trie_of(sequences)
    nodes = dict(walk(trie))
    assert set(nodes) == {sequence[:n] for sequence in [(), *sequences] for n in range(len(sequence) + 1)}
    assert sorted(nodes.values()) == list(range(trie.nodes))
    assert list(nodes.values()) == sorted(nodes.values())  # depth first
    for path, node in nodes.items():
        here = trie.items[trie.lo[node] : trie.own[node]].tolist()
        below = trie.items[trie.lo[node] : trie.hi[node]].tolist()
        assert here == [i for i, sequence in enumerate(sequences) if sequence == path]
        assert sorted(below) == [i for i, sequence in enumerate(sequences) if sequence[: len(path)] == path]
        assert trie.items_below(node) == len(below)
        edges = trie.token[trie.ptr[node] : trie.ptr[node + 1]].tolist()
        assert edges == sorted(set(edges))


@given(SEQUENCES)
@settings(max_examples=200, deadline=None)
def test_chains_are_the_forced_stretches(sequences):
    trie = trie_of(sequences)
    for path, node in walk(trie):
        forced, at = [], node
        while trie.ptr[at + 1] - trie.ptr[at] == 1 and trie.own[at] == trie.lo[at]:
            forced.append(int(trie.token[trie.ptr[at]]))
            at = int(trie.child[trie.ptr[at]])
        assert trie.chain[node] == len(forced), path
        assert trie.token[trie.ptr[node] : trie.ptr[node] + trie.chain[node]].tolist() == forced
        assert node + trie.chain[node] == at


def test_arrays_have_the_types_the_engine_expects():
    types = {name: getattr(trie_of([(1, 2), (3,)]), name).dtype.name for name in Trie.__dataclass_fields__}
    assert types == {"ptr": "int64", "chain": "int16"} | dict.fromkeys(
        ["token", "child", "lo", "own", "hi", "items"], "int32"
    )


def answered(built: Catalogue) -> dict[str, tuple[int, ...]]:
    """item_id -> the path at whose end the trie has it."""
    found = {}
    for path, node in walk(built.trie):
        for row in built.trie.items[built.trie.lo[node] : built.trie.own[node]]:
            assert built.item_ids[row] not in found
            found[built.item_ids[row]] = path
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_title_leads_to_its_products(language):
    enc = encoder(language=language)
    built = Catalogue.build(list(SHOP), list(SHOP.values()), enc)
    expected = {item: tuple(enc.answer_tokens(title or item)) for item, title in SHOP.items()}
    assert answered(built) == expected
    assert expected["b2"] == expected["d4"] != expected["c3"] == expected["g7"]
    assert built.coding == "titles"
    assert built.item_token.tolist() == [-1] * 7


def test_rows_are_in_order_of_item_id_and_keep_the_shops_titles():
    built = Catalogue.build(list(SHOP), list(SHOP.values()), encoder())
    assert list(built.item_ids) == sorted(SHOP)
    assert list(built.titles) == [SHOP[item] for item in sorted(SHOP)]
    assert built.titles.take(np.array([6, 0])) == ["Black  ink\n", "Inkjet printer"]
    assert len(built) == len(built.item_ids) == 7


def test_the_order_of_the_items_changes_nothing():
    pairs = list(SHOP.items())
    first = Catalogue.build(*zip(*pairs, strict=True), encoder())
    second = Catalogue.build(*zip(*random.Random(1).sample(pairs, len(pairs)), strict=True), encoder())
    assert first.version == second.version
    for name in Trie.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first.trie, name), getattr(second.trie, name))


def test_titles_beyond_the_answers_length_share_an_answer():
    long = "word " * 200
    enc = encoder(context_tokens=64)
    built = Catalogue.build(["a", "b", "c"], [long + "red", long + "blue", "word"], enc)
    paths = answered(built)
    assert paths["a"] == paths["b"] != paths["c"]
    assert len(paths["a"]) <= enc.max_answer_tokens == 16


def test_more_items_than_are_encoded_at_once(monkeypatch):
    monkeypatch.setattr(catalogue, "ENCODED_AT_ONCE", 2)
    enc = encoder()
    built = Catalogue.build(list(SHOP), list(SHOP.values()), enc)
    assert answered(built) == {item: tuple(enc.answer_tokens(title or item)) for item, title in SHOP.items()}
    assert list(built.item_ids) == sorted(SHOP)


def test_item_tokens_are_those_of_the_manifest():
    built = Catalogue.build(["a", "c", "b"], ["A", "C", "B"], encoder(("b", "a", "gone")))
    assert list(built.item_ids) == ["a", "b", "c"]
    assert built.item_token.tolist() == [FIRST + 1, FIRST, -1]
    assert built.coding == "item_tokens"
    assert built.trie.nodes == 1


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), unique=True, max_size=20),
    st.text(max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_index_finds_every_product_and_no_other(item_ids, other):
    built = Catalogue.build(item_ids, ["t"] * len(item_ids), encoder(("x",)))
    rows = built.index([*item_ids, other])
    assert [built.item_ids[row] for row in rows[:-1]] == item_ids
    assert rows.dtype == np.int32
    assert (rows[-1] >= 0) == (other in item_ids)


def test_index_forgets_and_finds_again(monkeypatch):
    monkeypatch.setattr(catalogue, "CACHED_ROWS", 2)
    built = Catalogue.build(list(SHOP), list(SHOP.values()), encoder())
    for _ in range(2):
        assert built.index([*sorted(SHOP), "nothing"]).tolist() == [0, 1, 2, 3, 4, 5, 6, -1]


@pytest.mark.parametrize("shop", [SHOP, {}])
def test_saved_catalogue_is_mapped_and_equal(tmp_path, shop):
    built = Catalogue.build(list(shop), list(shop.values()), encoder())
    built.save(tmp_path / "catalogue")
    loaded = Catalogue.load(tmp_path / "catalogue")
    for name in Trie.__dataclass_fields__:
        array = getattr(loaded.trie, name)
        assert isinstance(array, np.memmap)
        np.testing.assert_array_equal(array, getattr(built.trie, name))
    assert (loaded.coding, loaded.version) == (built.coding, built.version)
    assert list(loaded.item_ids) == sorted(shop)
    assert loaded.index(sorted(shop)).tolist() == list(range(len(shop)))
    assert not any(b"pickle" in file.read_bytes()[:200] for file in (tmp_path / "catalogue").iterdir())


def test_catalogue_that_is_incomplete_is_named(tmp_path):
    with pytest.raises(CatalogueError, match="incomplete"):
        Catalogue.load(tmp_path)
    built = Catalogue.build(list(SHOP), list(SHOP.values()), encoder())
    built.save(tmp_path)
    np.save(tmp_path / "item_token.npy", np.zeros(3, np.int32))
    with pytest.raises(CatalogueError, match="different catalogues"):
        Catalogue.load(tmp_path)
    (tmp_path / "ptr.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(CatalogueError, match="incomplete"):
        Catalogue.load(tmp_path)
    (tmp_path / "catalogue.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(CatalogueError, match="format 99"):
        Catalogue.load(tmp_path)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="twice"):
        Catalogue.build(["a", "a"], ["x", "y"], encoder())
    with pytest.raises(ValueError, match="2 item_ids, 1 titles"):
        Catalogue.build(["a", "b"], ["x"], encoder())


def test_version_follows_the_set_of_products_and_their_titles():
    base = catalogue_version(["a", "b"], ["x", "y"])
    assert len(base) == 16
    assert catalogue_version(["b", "a"], ["y", "x"]) == base
    others = [(["a", "b"], ["y", "x"]), (["a"], ["x"]), (["a", "b"], ["x", "z"]), (["a", "bx"], ["xy", ""]), ([], [])]
    assert len({base, *(catalogue_version(*other) for other in others)}) == 6
    assert catalogue_version(["a1"], ["b"]) != catalogue_version(["a"], ["1b"])


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Red  ink", "Red  ink"),
        ("红色 墨盒\u3000大", "红色 墨盒\u3000大"),
        ("\x1b[31mRed\x1b[0m ink", "Red ink"),
        ("Ink\x1b]0;owned\x07 pot", "Ink pot"),
        ("Ink\x1b]8;;http://evil.com\x1b\\pot", "Inkpot"),
        ("Ink\x9b2Jpot\x00\n", "Inkpot\n"),
        ("Ink\u202etop", "Inktop"),
        ("\x1b", ""),
    ],
)
def test_titles_have_no_control_characters(title, expected):
    assert plain_title(title) == expected
    built = Catalogue.build(["a"], [title], encoder())
    assert list(built.titles) == [expected]
