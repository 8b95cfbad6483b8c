"""A list has one product of each title, in both codings, as a plain filter of the full ranking has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lm.recommend.catalogue import Catalogue, CatalogueError
from lm.recommend.list_rules import ListRule, RuleTable
from lm.recommend.recommender import Recommender, ScoredItem
from lm.recommend.same_titles import SAME_TITLE, SameTitles
from lm.text.prompt import PromptEncoder
from tests.models import save_causal

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = [f"{colour} {thing}" for colour in ("Red", "Blue", "Black") for thing in ("oil", "ink cartridge", "printer")]
#: Each title three times: as it is, again under another id, and in capitals.
TITLES = [*PLAIN, *PLAIN, *(title.upper() for title in PLAIN), "Soft oil shampoo"]
IDS = [f"i{n:02d}" for n in np.random.default_rng(0).permutation(len(TITLES))]
KEY = {item: title.lower() for item, title in zip(IDS, TITLES, strict=True)}
GONE = {"old-1": "red oil", "old-2": "green tea"}  # no longer on sale; the second has no twin
SAME = SameTitles.build(IDS, list(KEY.values()), list(GONE), list(GONE.values()))
PROMPTS = [
    "Customer history\nBought: Red oil\nBought:",
    "Customer history\nBought:",
    "Customer history\nBought: Black ink",
]
CODINGS = ["item_tokens", "titles"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@cache
def model(coding: str, root: Path, same: SameTitles | None, rules: tuple[ListRule, ...] = ()) -> Recommender:
    path = root / coding
    if not path.exists():
        save_causal(path, item_ids=sorted(IDS) if coding == "item_tokens" else (), spread=0.15)
    catalogue = Catalogue.build(IDS, TITLES, PromptEncoder.load(path))
    nothing = [None] * len(IDS)
    capitals = np.array([[title.isupper() for title in TITLES]] * len(rules), np.bool_)
    thing = [title.lower().split(" ")[0] for title in TITLES]
    values = [thing if rule.kind == "cap" else [] for rule in rules]
    facts = [[""] * len(IDS)] * len(rules)
    table = RuleTable.build(catalogue, rules, 5, IDS, capitals, values, nothing, nothing, facts) if rules else None
    return Recommender.load(path, catalogue, dtype="float32", rules=table, same_titles=same)


def expected(ranking: list[ScoredItem], k: int, excluded: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The definition: go down the ranking, and leave out each product whose title is listed or excluded."""
    bought = {(KEY | GONE).get(item) for item in excluded}
    listed: list[tuple[str, tuple[str, ...]]] = []
    names: tuple[str, ...] = ()
    for one in ranking:
        if KEY[one.item_id] in bought:
            continue
        if KEY[one.item_id] in {KEY[item] for item, _ in listed}:
            names = (SAME_TITLE,)
            continue
        listed.append((one.item_id, names))
    return listed[:k]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("excluded", [[], [IDS[0]], ["old-1", "old-2", "unknown"]])
def test_a_list_is_the_ranking_without_repeated_titles(coding, excluded, root):
    rankings = model(coding, root, None).recommend(PROMPTS, [[]] * 3, len(IDS))
    for k in (3, 6, 10):
        lists = model(coding, root, SAME).recommend(PROMPTS, [excluded] * 3, k)
        for ranking, one in zip(rankings, lists, strict=True):
            assert [(product.item_id, product.rules) for product in one] == expected(ranking, k, excluded)
    assert len(lists[0]) == (10 if not excluded else 9)  # ten different titles, red oil among them


@pytest.mark.parametrize("coding", CODINGS)
def test_rules_choose_which_of_the_twins_is_listed(coding, root):
    rules = (
        ListRule("capitals", "pin", rank=2),
        ListRule("one of a colour", "cap", most=1),
        ListRule("dear", "boost", 90.0),
    )
    told = ['{"rules": [0]}', '{"rules": [1]}', '{"rules": [2]}']
    pinned, capped, boosted = model(coding, root, SAME, rules).recommend([PROMPTS[1]] * 3, [[]] * 3, 5, told)
    title = dict(zip(IDS, TITLES, strict=True))
    for one in (pinned, capped, boosted):
        assert len({KEY[product.item_id] for product in one}) == len(one)
    assert title[pinned[1].item_id].isupper()
    assert len(pinned) == 5
    assert len({title[product.item_id].lower().split(" ")[0] for product in capped}) == len(capped) == 4
    assert sum(title[product.item_id].isupper() for product in boosted) == 5


def test_without_equal_titles_nothing_is_kept():
    assert SameTitles.build(["a", "b"], ["x", "y"], ["c"], ["z"]) is None
    gone_only = SameTitles.build(["a", "b"], ["x", "y"], ["c", "d"], ["z", "z"])
    assert gone_only is None


def test_groups_are_read_as_they_were_written(root, tmp_path):
    catalogue = model("item_tokens", root, None).catalogue
    assert SameTitles.load(tmp_path, catalogue) is None
    SAME.save(tmp_path)
    again = SameTitles.load(tmp_path, catalogue)
    assert again.group.tolist() == SAME.group.tolist()
    assert again.of_others == SAME.of_others == {"old-1": again.group[sorted(IDS).index(IDS[0])]}
    (tmp_path / "same_titles.npy").unlink()
    with pytest.raises(CatalogueError, match="run the night again"):
        SameTitles.load(tmp_path, catalogue)
