"""Names the language of texts by lingua's n-gram models.

A short text such as "Super!" fits many languages. So the languages of the whole collection are found first, and each
text is then given the likeliest of these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lingua import Language, LanguageDetectorBuilder

#: Languages that are told apart. All 75 of lingua take four times the time, and give short texts rare languages.
LANGUAGES = (
    *("ARABIC", "CHINESE", "CZECH", "DANISH", "DUTCH", "ENGLISH", "FINNISH", "FRENCH", "GERMAN", "GREEK", "HEBREW"),
    *("HINDI", "HUNGARIAN", "INDONESIAN", "ITALIAN", "JAPANESE", "KOREAN", "POLISH", "PORTUGUESE", "ROMANIAN"),
    *("RUSSIAN", "SPANISH", "SWEDISH", "THAI", "TURKISH", "UKRAINIAN", "VIETNAMESE"),
)
#: Of these, those that their letters alone tell. Kanji do not tell Japanese from Chinese.
_OWN_SCRIPT = ("ARABIC", "CHINESE", "GREEK", "HEBREW", "HINDI", "KOREAN", "THAI")
#: What `languages` says of a text without letters, or in letters of no found language.
UNKNOWN = "unknown language"
#: The texts that say which languages occur, the least share of their votes that a language must have, and the
#: characters after which a text is no surer.
_TEXTS, _SHARE, _LONG = 2000, 0.02, 100


def languages(texts: Sequence[str]) -> list[str]:
    """Return the English name of each text's language, such as German, or UNKNOWN.

    A language of less than 2% of the collection is not found, unless it has letters of its own. Its texts get the
    likeliest of the found languages with the same letters. Where none is found, Latin letters are English.
    """
    found = _occurring(texts) or {Language.ENGLISH}
    detector = LanguageDetectorBuilder.from_languages(*found, *map(Language.from_str, _OWN_SCRIPT)).build()
    return [_name(detector.detect_language_of(text)) for text in texts]


def _occurring(texts: Sequence[str]) -> set[Language]:
    """The languages of the collection that share letters with others.

    Evenly spaced texts vote by the square of their length, because long texts are sure.
    """
    every = max(1, len(texts) // _TEXTS)
    chosen = map(Language.from_str, LANGUAGES)
    # The small models need 26 MB for all languages instead of 450.
    detector = LanguageDetectorBuilder.from_languages(*chosen).with_low_accuracy_mode().build()
    votes: Counter[Language] = Counter()
    for text in texts[::every]:
        language = detector.detect_language_of(text)
        if language is not None:
            votes[language] += min(len(text), _LONG) ** 2
    least = _SHARE * votes.total()
    return {language for language, count in votes.items() if count >= least and language.name not in _OWN_SCRIPT}


def _name(language: Language | None) -> str:
    return UNKNOWN if language is None else language.name.title()
