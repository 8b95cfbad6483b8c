"""Languages of texts: short ones get a language of their collection."""

from __future__ import annotations

from lm.text.languages import UNKNOWN, languages

GERMAN = ["Sehr gut verarbeitet, funktioniert einwandfrei", "Nach zwei Tagen kaputt, das Geld ist weg"]
FRENCH = ["Très bon produit, je le recommande à tout le monde", "Cassé après deux jours, c'est une honte"]
ENGLISH = ["Works well and arrived before the weekend", "It stopped working after a few days"]


def test_each_text_has_its_own_language():
    found = languages([*GERMAN, *FRENCH, *ENGLISH, "很好", "Отлично, очень доволен", "5/5 !!!"])
    assert found == ["German"] * 2 + ["French"] * 2 + ["English"] * 2 + ["Chinese", "Russian", UNKNOWN]


def test_a_short_text_has_a_language_of_its_collection():
    # Alone, "Super" fits many languages.
    assert languages([*GERMAN, "Super"])[-1] == "German"
    assert languages([*FRENCH, "Super"])[-1] == "French"


def test_a_rare_mistake_makes_no_language():
    assert set(languages([*ENGLISH * 200, "klasse"])) == {"English"}


def test_a_collection_without_a_text_of_shared_letters():
    assert languages(["很好", "质量差"]) == ["Chinese", "Chinese"]
    assert languages([]) == []
