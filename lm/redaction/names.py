"""Names of persons: those that introduce themselves or sign, and the known names of a text's customer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache

from lm.redaction.folded_text import fold
from lm.redaction.span import PLACEHOLDER, Span, word_set

_WORD = r"(?:[^\W\d_]\.(?=[ ]?[^\W\d_])|[^\W\d_](?:[^\W\d_]|['’\-](?=[^\W\d_]))*)"
_CAPITAL = r"(?=[A-ZÀ-ÖØ-ÞА-ЯЁŚŻŁĆŹ])" + _WORD
_PARTICLE = r"(?:van der|van den|van|von der|von|de la|de los|del|de|da|dos|do|di|du|le|la|bin|al|el|y|e)"
_NAME = rf"{_CAPITAL}(?:[ ](?:{_PARTICLE} )?{_CAPITAL}){{0,3}}"
#: Words that end a name in lower case, and those that are none after "I am" or "thanks".
_NO_NAME = word_set(
    "and or but i we he she it my our the a an from in at of to on for with is was are not who that this "
    "so please can could "
    "would you your here there just very really also am have has had will new old happy glad sorry sure "
    "good great all "
    "again everyone everybody team support sir madam madame customer customers service friend friends "
    "folks sirs shop store "
    "guys amazon in und oder aber ich wir von aus der die das ein eine et mais je nous de du la le les "
    "un une y pero yo "
    "soy mi mas e mas eu sou meu но и я мы out up now back what how when where why misspelled wrong spelled written "
    "engraved missing printed on misleading incorrect too as if since because needs should must unknown "
    "not no none seller sellers vendor buyer manager staff admin agent "
    "assistant helpdesk colleagues ladies gentlemen both santa diary world"
)
_LOWER_NAME = rf"{_WORD}(?:[ ]{_WORD}){{0,3}}"
_MARKS = r"[ ]?[:,=\-]?[ ]?[\"“'‘]?"

_SAID = re.compile(

        r"(?:\b(?:my (?:full |first |last |given |sur|family )?name(?:'s| is|:| =)|(?:full |first |last |sur"
        "|recipient |contact |customer |cardholder )?name ?[:=]|name is|i am called|i'm called|they call me"

        "|(?:you can |just |please )?call me|mein name (?:ist|lautet)|ich hei(?:ß|ss)e|ich bin (?:die|der"
        "|frau|herr)|name ist|je m['’ ]appelle|mon nom (?:est|c'est)|mon prénom est|me llamo|mi nombre (?:es"
        "|completo es)|(?<![A-Za-zÀ-ÿ] )soy(?: el| la)?"

        "|meu nome (?:é|e|completo é)|(?:eu )?me chamo|chamo-me|sou (?:a|o)(?= [A-Z])|mi chiamo|il mio nome "
        "è|mijn naam is|ik heet|mam na imię|nazywam się"
    r"|mitt namn är|jag heter)|меня зовут|мо[ёе] имя|اسمي|أنا اسمي|мене звати)" + _MARKS,
    re.I,
)  # fmt: skip
#: Words after which only a capital letter makes a name.
_NEEDS_CAPITAL = re.compile(r"(?:call me|soy|sou|ich bin|name is|name ist|nazywam)\b", re.I)
_I_AM = re.compile(
    rf"\b(?:I am|I'm|I’m|Ich bin|Je suis|Sono|Ik ben) ({_CAPITAL} {_CAPITAL}(?: {_CAPITAL})?)(?= |[,.!]|\n|$)"
)
_SIGNED = re.compile(
    r"\b(?:(?:best|kind|kindest|warm|warmest|many)? ?regards|best wishes|all the best|yours(?: (?:sincerely"
    "|truly|faithfully))?|sincerely(?: yours)?"
    "|respectfully|cheers|signed|many thanks|thank you|thanks|(?:mit )?(?:freundlichen?|vielen?|lieben?"
    "|besten?|herzlichen?|schönen?) grü(?:ß|ss)en?|lg|mfg|vg|gruß|grüße"
    "|cordialement|bien (?:à vous|cordialement)|(?:sincères )?salutations|amicalement|saludos(?: "
    "cordiales)?|un saludo|atentamente|atte|un abrazo|atenciosamente"
    "|cumprimentos|com os melhores cumprimentos|abraços|obrigad[oa]|cordiali saluti|distinti saluti|met "
    "vriendelijke groet(?:en)?|groetjes|pozdrawiam"
    r"|med vänliga hälsningar)(?:[ ]?[,.!\-]+[ \n]?|\n|[ ]-+[ ]?)|(?:с уважением|спасибо)[,.!]?[ \n]"
    r"|(?:مع تحياتي|تحياتي)[،,]?[ \n]",
    re.I,
)
_WEAK_SIGNATURE = re.compile(r"(?:thank|cheers|obrigad|спасибо|signed|lg|vg|all the best)", re.I)
_TITLE = re.compile(
    r"\b(?:(?:Dear|Hi|Hello|Hallo|Liebe[r]?|Sehr geehrte[r]?|Bonjour|Cher|Chère|Hola|Estimad[oa]|Olá"
    "|Car[oa]|Ciao|Beste|Hey)"
    r" (?:(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Frau|Monsieur|Madame|Señora?|Senhora?|Sr|Sra|Signora?)\.? "
    rf")?)({_NAME})(?=[ ]?[,!\n:]|$)"
)
_LOWER_GREETING = re.compile(
    rf"(?:^|\n|(?<=[.!?] ))(?:dear|hi|hello|hey) (?:mr|mrs|ms|miss|dr)?\.? ?({_WORD}(?: {_WORD})?)(?=[,!:]|\n)", re.I
)
_HONORIFIC = re.compile(
    r"\b(?:Mr|Mrs|Ms|Herrn?|Hr(?=\.)|Fr(?=\.)|Frau|Mme|Mlle|Monsieur|Señora?|Sra?|Senhora?|Signora?)\.? (?!Clean|Coffee"
    rf"|Muscle|Men\b|Meyer|Beams|Potato|Bean|Heater|Grinch|Claus|Maybelle|Pen\b|Tea\b|Beer)({_CAPITAL}(?: "
    f"{_CAPITAL})?)"
)

#: The commonest family names of China and Korea; a name in running text begins with one of them.
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈"
    "姚卢姜崔钟谭陆汪范金石廖贾夏韦傅方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
    "張劉陳楊黃趙吳孫馬羅鄭謝許韓馮鄧曾蕭葉蘇呂盧鐘譚陸範賈韋鄒龍賀顧龔萬錢嚴湯欧阳上官司马诸葛"
)
_HAN_NAME = rf"[{_SURNAMES}](?:[·• ]?[\u4e00-\u9fff]){{1,3}}?"
_HAN_END = (
    r"(?=[，。,.！!？?；;、\s\x00（(]|$|，|的|是|在|我|来自|住|电话|手机|先生|女士|小姐|今年|地址|订单"
    "|身份证|联系|号)"
)
_CHINESE = re.compile(
    f"(?:我叫|我的名字(?:是|叫)|我名叫|本人(?:叫|姓名)?|名字(?:是|叫|:|：)|我(?:姓名)?是(?=[{_SURNAMES}])"
    f"|叫我)[ :：是]?({_HAN_NAME}){_HAN_END}"
    "|(?:姓名|收件人|收货人|联系人|签收人|收件者|客户名|签名|署名|落款|持卡人|户名)[ "
    rf":：是为]{{1,3}}((?:{_HAN_NAME}|[\u4e00-\u9fff]{{2,4}}|[A-Za-z][A-Za-z ]{{1,20}}?)){_HAN_END}"
    rf"|(?:尊敬的|亲爱的)((?:{_HAN_NAME}))(?=先生|女士|小姐|[，,:：])"
    rf"|(?<![\u4e00-\u9fff])((?:{_HAN_NAME}))(?=先生|女士|小姐)"
    rf"|(?:^|(?<=[，。！!\n ]))((?:{_HAN_NAME}))(?=您好|你好)"
    rf"|(?:谢谢|祝好|敬上|此致)[，,。!！ \n]{{1,3}}((?:{_HAN_NAME}))(?=$|\n)"
)
_JA = r"[\u4e00-\u9fff々ぁ-んァ-ヶー]"
_JAPANESE = re.compile(
    r"((?:[\u4e00-\u9fff々]{1,4}[ ]?[\u4e00-\u9fff々ぁ-んァ-ヶー]{0,6}|[ァ-ヶー]{2,8}[ "
    "・]?[ァ-ヶー]{0,8}|[A-Z][a-z]+(?: [A-Z][a-z]+)?))と(?:申します|もうします|いいます|言います)"
    rf"|(?:名前は|氏名[はー:：]?|お名前[:：])[ ]?((?:{_JA}{{1,5}}[ ]?{_JA}{{0,5}}?))(?=です|と|。|、|$|\n"
    "|でございます)"
    r"|(?:^|\n)((?:[\u4e00-\u9fff々ァ-ヶー]{1,5}(?:[ ][\u4e00-\u9fff]{1,4})?))[ ]?(?:様|さま)(?=$|\n|、|。|[ ])"
    r"|(?:私は|わたしは|僕は)((?:[\u4e00-\u9fff々]{1,4}[ ]?[\u4e00-\u9fffぁ-んァ-ヶー]{0,4}?))(?=です"
    "|と申|でございます)"
)
_KOREAN = re.compile(
    "(?:제 이름은|이름은|저는|성함은|성명[:은]?) ?((?:[김이박최정강조윤장임한오서신권황안송류전홍고문양손"
    "배백허남심노하곽성차주우구민유진지엄채원천방공현함변염여추도소석선설마길연위표명기반라왕금옥육인맹제"
    "모탁국어은편용][가-힣]{1,3}?))(?=입니다|이에요|예요|이라고|라고|이고|인데|[,. ]|$)"
    "|(?:^|(?<=[ \n]))([김이박최정강조윤장임한오서신권황안송류전홍문양손배백허남심노곽성차주우민유진엄채"
    "원천방공함염여추][가-힣]{2})"
    " ?(?:님|씨)(?=[,.! \n께의은는이가]|$)"
)
_SALUTED = re.compile(
    r"(?:(?:здравствуйте|добрый день|уважаем(?:ый|ая)|привет)[,]? ([^\W\d_]+(?: [^\W\d_]+)?)(?=[,!.\n])"
    r"|(?:عزيزي|عزيزتي|السيدة?|الأستاذة?) ([\u0620-\u064a]+(?: [\u0620-\u064a]+)?))",
    re.I,
)
_OTHER_SCRIPTS = (_CHINESE, _JAPANESE, _KOREAN, _SALUTED)
_NO_OTHER_NAME = word_set(
    "고객님 이용자 방문자 구매자 판매자 전문가 여러분 покупатель клиент العميل العميلة 老板 老婆 老公 "
    "妈妈 爸爸 朋友 同事 客服 卖家 店家 商家 师傅 快递 本人 自己"
)

_SAY = word_set(
    "name name's called call heiße heisse appelle nom prénom llamo nombre soy nome chamo chamo-me chiamo "
    "naam heet imię nazywam "
    "heter ich j'appelle m'appelle sou bin"
)
_SIGN = word_set(
    "yours regards wishes sincerely truly faithfully respectfully cheers signed thanks thank grüßen grüße gruß "
    "grüssen lg mfg vg best "
    "cordialement salutations amicalement saludos saludo atentamente atte abrazo atenciosamente "
    "cumprimentos abraços obrigado "
    "obrigada saluti groet groeten groetjes pozdrawiam hälsningar vous"
)
_GREET = word_set(
    "dear hi hello hey hallo liebe lieber geehrte geehrter bonjour cher chère hola estimado estimada olá "
    "caro cara ciao beste"
)
_TITLES = word_set(
    "mr mrs ms hr fr herr herrn frau mme mlle monsieur señor señora sr sra senhor senhora signor signora"
)
_AM = word_set("i'm i’m am bin suis sono ik")
TRIGGERS = _SAY | _SIGN | _GREET | _TITLES | _AM
"""The words in lower case of which one stands before every name in Western languages."""
OTHER_TRIGGER = re.compile(
    "我叫|名字|名叫|本人|叫我|我是|姓名|收件|收货人|联系人|签|署名|落款|此致|持卡人|户名|尊敬|亲爱|先生"
    "|女士|小姐|谢谢|祝好|敬上|您好|你好"
    "|申します|もうします|いいます|言います|名前|氏名|私は|わたしは|僕は|様|さま|이름|저는|성함|성명|[님씨]"
    "|зовут|имя|уважением|спасибо|здравствуйте|уважаем|اسمي|تحيات|عزيز|السيد|звати",
    re.I,
)
"""What stands before or after every name in the other scripts."""


def names(text: str, words: Set[str]) -> Iterator[Span]:
    """Names of folded text that introduce themselves, sign, or follow a greeting or "Mr". Spans may overlap."""
    for match in _THIS_IS.finditer(text) if "his is " in text else ():
        yield Span(*match.span(1), "NAME")
    if TRIGGERS.isdisjoint(words) and (text.isascii() or not OTHER_TRIGGER.search(text)):
        return
    is_other = not text.isascii()  # a script without capitals, in which the sets of words have no part
    if is_other or not _SAY.isdisjoint(words):
        for match in _SAID.finditer(text):
            yield from _after(text, match.end(), _NEEDS_CAPITAL.match(match[0]) is not None)
    if is_other or not _SIGN.isdisjoint(words):
        for match in _SIGNED.finditer(text):
            yield from _signature(text, match.end(), _WEAK_SIGNATURE.match(match[0].strip()) is not None)
    for pattern, before in ((_I_AM, _AM), (_TITLE, _GREET), (_LOWER_GREETING, _GREET), (_HONORIFIC, _TITLES)):
        for match in pattern.finditer(text) if not before.isdisjoint(words) else ():
            if _NO_NAME.isdisjoint(match[1].lower().split()):
                yield Span(*match.span(1), "NAME")
    if is_other:
        for pattern in _OTHER_SCRIPTS:
            for match in pattern.finditer(text):
                group = next(i for i, found in enumerate(match.groups(), 1) if found)
                if _NO_OTHER_NAME.isdisjoint(match[group].lower().split()):
                    yield Span(*match.span(group), "NAME")


_NAME_AT = re.compile(_NAME)
_TITLE_CASE = re.compile(r"[^\W\d_](?:[^\W\d_A-Z]|['’.])")
_THIS_IS = re.compile(rf"\b[Tt]his is ({_NAME}) (?:from|here|speaking|calling|again|writing)\b")
_LOWER_AT = re.compile(_LOWER_NAME)


def _after(text: str, start: int, needs_capital: bool) -> Iterator[Span]:
    """The name at `start`: capitalised words, or up to three words in lower case before a word that is no name."""
    match = _NAME_AT.match(text, start)
    if match is None and not needs_capital:
        match = _LOWER_AT.match(text, start)
    if match is None or (needs_capital and not _TITLE_CASE.match(match[0])):
        return
    end = start
    for word in list(re.finditer(r"[^ ]+", match[0]))[:4]:
        if word[0].lower().strip(".") in _NO_NAME and word[0].lower() not in (
            "de",
            "du",
            "la",
            "le",
            "y",
            "e",
            "da",
            "der",
        ):
            break
        end = start + word.end()
    if end > start:
        yield Span(start, end, "NAME")


def _signature(text: str, start: int, is_weak: bool) -> Iterator[Span]:
    """A name after the words that end a letter, if nothing else follows it; after "thanks" in capitals only."""
    match = _NAME_AT.match(text, start) or (None if is_weak else _LOWER_AT.match(text, start))
    if match is None:
        return
    rest = text[match.end() :].lstrip(" .")
    if is_weak and (rest[:1] not in ("", "\n") or "-" in text[start - 3 : start]):
        return
    if rest and rest[0] not in "\n,(+\x00-|" and not rest[0].isdigit():
        return
    words = match[0].lower().split()
    if len(words) <= 3 and not any(word in _NO_NAME for word in words):
        yield Span(match.start(), match.end(), "NAME")


def without_names(text: str, known: Sequence[str]) -> str:
    """Replace the `known` names of the customer who wrote `text` by [NAME].

    A whole name is found in any case and order; one of its words only where it is capitalised as in the name. Names
    of one letter, and texts that are placeholders, stay.
    """
    pattern = _pattern_of(tuple(sorted({name.strip() for name in known if name and len(name.strip()) > 1})))
    if pattern is None or not text:
        return text
    folded = fold(text)
    pieces, done = [], 0
    taken = [match.span() for match in PLACEHOLDER.finditer(folded.text)]
    for match in pattern.finditer(folded.text):
        if any(a <= match.start() < b for a, b in taken):
            continue
        start, end = folded.source_span(*match.span())
        pieces += [text[done:start], "[NAME]"]
        done = end
    return "".join(pieces) + text[done:]


@lru_cache(maxsize=100_000)
def _pattern_of(known: tuple[str, ...]) -> re.Pattern[str] | None:
    whole: list[str] = []
    parts: list[str] = []
    for name in known:
        words = [word for word in re.split(r"[\s,]+", fold(name).text) if word]
        orders = [words, words[::-1]] if len(words) > 1 else [words]
        whole += [r"[\s,]{0,2}".join(map(re.escape, order)) for order in orders]
        parts += [re.escape(word) for word in words if len(word) > 2 and word[0].isupper()]
    if not whole:
        return None
    longest = sorted(set(whole), key=len, reverse=True)
    each = "|".join(rf"(?<![^\W\d_a-z]){name}(?!\w)" if name[:1].isascii() else name for name in longest)
    found = rf"(?i:{each})"
    if parts:
        found += rf"|(?<!\w)(?:{'|'.join(sorted(set(parts), key=len, reverse=True))})(?!\w)"
    return re.compile(found)
