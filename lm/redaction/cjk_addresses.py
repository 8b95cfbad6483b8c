"""Addresses in Chinese, Japanese and Korean: a road or an estate with numbers of house, building, floor and room."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lm.redaction.span import Span

_HAN = r"[\u4e00-\u9fff]"
_NUMBER = r"(?:[A-Za-z]?\d{1,5}(?:-\d{1,4})?[A-Za-z]?|[零〇一二三四五六七八九十百]{1,5})"
_NUMBERED = r"(?:号楼|號樓|号院|号|號|弄|栋|棟|幢|座|单元|單元|楼|樓|层|層|室|户|房|门|巷|支弄)"
_REGION = rf"(?:{_HAN}{{2,7}}?(?:省|自治区|市|区|區|县|縣|镇|鎮|乡|街道)){{0,4}}"
_ROAD = (
    f"{_HAN}{{1,9}}?(?:大道|大街|路|街|道|巷|弄|胡同|里|村|小区|社区|花园|花園|大厦|大廈|公寓|苑|家园"
    "|新村|广场|城|园|庄)"
)
_CHINESE = re.compile(
    f"{_REGION}{_ROAD} ?(?:[东西南北中一二三四五六七八九十]+(?:段|路|区|里|期) ?)?{_NUMBER} "
    rf"?{_NUMBERED}(?: ?{_ROAD})?(?: ?{_NUMBER} ?{_NUMBERED}){{0,4}}(?: ?\d{{3,4}}(?!\d))?"
    f"|{_NUMBER} ?(?:号楼|號樓|栋|棟|幢|座|单元|單元) ?(?:{_NUMBER} ?{_NUMBERED} "
    r"?){0,3}(?:\d{3,4}(?:室|房|户)?)?"
    rf"|(?<![\d.A-Za-z]){_NUMBER} ?室"
)
_LEAD = re.compile(
    rf"{_HAN}{{0,6}}?(?:送到|寄到|发到|发往|寄往|地址|住址|住在|家住|位于|就在|快递到)(?:是|为|改成|改为)?"
)
#: "5号电池" and "3层抽屉" are goods: what follows a number unit of one address part must not be a noun of goods.
_GOODS = re.compile(r"(?:电池|鞋|色|码|针|线|柜|架|抽屉|蛋糕|床|笔|钢|口红|唇|胶囊|款|链接|快递|客服)")
_JAPANESE = re.compile(
    rf"〒? ?\d{{3}}-\d{{4}} ?{_HAN}{{2,3}}[都道府県][^\s、。,]{{2,30}}|〒 ?\d{{3}}-\d{{4}}"
    f"|(?:{_HAN}{{2,3}}[都道府県])?(?:{_HAN}|[ぁ-んァ-ヶー]){{1,6}}[市区町村郡](?:{_HAN}"
    "|[ぁ-んァ-ヶーノ々]){1,10}?"
    r" ?\d{1,4}(?: ?(?:丁目|番地|番|号|-) ?\d{0,4}){1,4}(?:号室|号)?(?: ?[^\s、。,]{1,12}?\d{2,4}号?室?)?"
)
_KOREAN = re.compile(
    "(?:[가-힣]{2,5}(?:특별시|광역시|특별자치시|도|시) ?)?(?:[가-힣]{1,5}(?:시|군|구) "
    r"?){1,2}[가-힣0-9]{1,10}(?:로|길|동)(?: ?\d{1,3}번?길)? ?\d{1,4}(?:-\d{1,4})?"
    r"(?:번지)?(?:,? ?[가-힣]{0,8} ?\d{1,4}동)?(?:,? ?\d{1,5}호)?"
)


def cjk_addresses(text: str) -> Iterator[Span]:
    """Addresses of folded text; `text` has a Chinese, Japanese or Korean character. Spans may overlap."""
    for match in _CHINESE.finditer(text):
        lead = _LEAD.match(text, match.start(), match.end())
        if not (_GOODS.match(text, match.end()) and len(re.findall(_NUMBERED, match[0])) < 2):
            yield Span(lead.end() if lead else match.start(), match.end(), "ADDRESS")
    for pattern in (_JAPANESE, _KOREAN):
        for match in pattern.finditer(text):
            yield Span(match.start(), match.end(), "ADDRESS")
