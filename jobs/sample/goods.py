"""The sample shop's product families in two languages, in groups that are bought one after another.

Lists are written as "a|b|c". The order of the families in a group is the order in which customers need them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

#: durable: bought once, followed by the next family.
#: match: consumed, followed by the same variant of the next family (a shampoo by its conditioner).
#: refill: consumed, followed by the next variant of the family (a flavour, a size).
PurchasePattern = Literal["durable", "match", "refill"]


class ProductFamily(NamedTuple):
    """A product family; `words` are what customers call it, and the variants of both languages correspond."""

    name: str
    words: tuple[str, ...]
    name_zh: str
    words_zh: tuple[str, ...]
    kind: PurchasePattern
    pence: int
    variants: tuple[str, ...]
    variants_zh: tuple[str, ...]


class ProductGroup(NamedTuple):
    """Product families that one brand makes."""

    name: str
    name_zh: str
    families: tuple[ProductFamily, ...]


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


def _family(
    kind: PurchasePattern, pence: int, names: str, names_zh: str, variants: str, variants_zh: str
) -> ProductFamily:
    """Parse a family; names are "title name|search word|search word". Both languages need as many variants."""
    family = ProductFamily(
        name=_split(names)[0],
        words=_split(names)[1:],
        name_zh=_split(names_zh)[0],
        words_zh=_split(names_zh)[1:],
        kind=kind,
        pence=pence,
        variants=_split(variants),
        variants_zh=_split(variants_zh),
    )
    assert len(family.variants) == len(family.variants_zh), names
    return family


# fmt: off
GROUPS = (
    ProductGroup("Printing", "打印用品", (
        _family("durable", 6990, "Inkjet Printer|printer|wireless printer", "喷墨打印机|打印机|家用打印机",
                "A120|A240 Wireless", "A120|A240 无线版"),
        _family("refill", 1290, "Ink Cartridge|ink|printer ink|cartridges", "墨盒|打印机墨盒|墨水",
                "301 Black|301 Colour|305 Black|305 Colour|305 XL Multipack",
                "301 黑色|301 彩色|305 黑色|305 彩色|305 大容量套装"),
        _family("refill", 790, "Photo Paper|photo paper|glossy paper", "相片纸|照片纸|打印纸",
                "A4 50 Sheets|10x15 cm 100 Sheets|A3 20 Sheets", "A4 50张|六寸 100张|A3 20张"),
    )),
    ProductGroup("Hair Care", "洗护", (
        _family("match", 649, "Shampoo|shampoo|hair wash", "洗发水|洗发露|洗头膏",
                "Coconut 400 ml|Argan Oil 400 ml|Tea Tree 400 ml|Camomile 400 ml",
                "椰子 400毫升|摩洛哥坚果油 400毫升|茶树 400毫升|洋甘菊 400毫升"),
        _family("match", 699, "Conditioner|conditioner|hair conditioner", "护发素|润发乳|护发乳",
                "Coconut 400 ml|Argan Oil 400 ml|Tea Tree 400 ml|Camomile 400 ml",
                "椰子 400毫升|摩洛哥坚果油 400毫升|茶树 400毫升|洋甘菊 400毫升"),
        _family("match", 899, "Hair Mask|hair mask|deep repair", "发膜|发膜|修护发膜",
                "Coconut|Argan Oil", "椰子|摩洛哥坚果油"),
    )),
    ProductGroup("Coffee", "咖啡", (
        _family("durable", 8490, "Coffee Machine|coffee machine|coffee maker", "咖啡机|咖啡机|滴漏咖啡机",
                "Brew One|Brew One Plus", "一号|一号升级版"),
        _family("refill", 549, "Ground Coffee 227 g|coffee|ground coffee", "咖啡粉 227克|咖啡|咖啡粉",
                "|Decaf|Dark Roast|Colombia|Ethiopia", "|低因|深度烘焙|哥伦比亚|埃塞俄比亚"),
        _family("refill", 249, "Coffee Filters|filters|filter papers", "咖啡滤纸|滤纸|过滤纸",
                "Size 2|Size 4|Unbleached", "2号|4号|原木色"),
        _family("durable", 1690, "Thermal Mug|travel mug|mug", "保温杯|随行杯|保温杯",
                "350 ml|500 ml", "350毫升|500毫升"),
    )),
    ProductGroup("Running", "跑步", (
        _family("durable", 7490, "Running Shoes|running shoes|trainers", "跑步鞋|跑鞋|运动鞋",
                "Road 5|Trail 3|Marathon Pro", "公路 5|越野 3|马拉松 专业版"),
        _family("refill", 1290, "Running Socks 3 Pairs|socks|running socks", "跑步袜 3双|袜子|运动袜",
                "Low Cut|Crew|Compression|Merino", "短筒|中筒|压缩|羊毛"),
        _family("durable", 990, "Sports Bottle|water bottle|bottle", "运动水壶|水壶|水杯",
                "600 ml|750 ml", "600毫升|750毫升"),
        _family("refill", 190, "Energy Gel|energy gel|gels", "能量胶|能量胶|补给",
                "Lemon|Berry|Cola|Salted Caramel", "柠檬|莓果|可乐|海盐焦糖"),
    )),
    ProductGroup("Phones", "手机", (
        _family("durable", 24900, "Smartphone|phone|mobile phone", "智能手机|手机|新款手机",
                "N5 64 GB|N7 128 GB|N7 Pro", "N5 64GB|N7 128GB|N7 Pro"),
        _family("durable", 1190, "Phone Case|phone case|case", "手机壳|手机壳|保护壳",
                "for N5 Clear|for N7 Clear|for N7 Pro Leather", "N5 透明|N7 透明|N7 Pro 真皮"),
        _family("refill", 690, "Screen Protector|screen protector|tempered glass", "钢化膜|手机膜|贴膜",
                "for N5|for N7|for N7 Pro", "N5|N7|N7 Pro"),
        _family("durable", 1590, "USB-C Charger|charger|fast charger", "快充充电器|充电器|充电头",
                "20 W|45 W", "20瓦|45瓦"),
    )),
    ProductGroup("Shaving", "剃须", (
        _family("durable", 1190, "Razor|razor|men's razor", "剃须刀|剃须刀|刮胡刀",
                "Fusion 3|Fusion 5", "三刀头|五刀头"),
        _family("refill", 899, "Razor Blades|razor blades|blades", "剃须刀片|刀片|替换刀头",
                "4 Pack|8 Pack|Sensitive 4 Pack|Sensitive 8 Pack", "4片装|8片装|敏感肌 4片装|敏感肌 8片装"),
        _family("refill", 329, "Shaving Foam 200 ml|shaving foam|foam", "剃须泡沫 200毫升|剃须泡沫|剃须膏",
                "|Aloe|Cool Mint", "|芦荟|冰爽薄荷"),
        _family("refill", 749, "Aftershave Balm|aftershave|balm", "须后乳|须后水|须后乳",
                "Classic|Sensitive", "经典|敏感肌"),
    )),
    ProductGroup("Cameras", "相机", (
        _family("durable", 49900, "Mirrorless Camera|camera|mirrorless", "微单相机|相机|微单",
                "M10|M50", "M10|M50"),
        _family("refill", 1390, "Memory Card|memory card|sd card", "存储卡|内存卡|SD卡",
                "64 GB|128 GB|256 GB|512 GB", "64GB|128GB|256GB|512GB"),
        _family("durable", 2990, "Camera Bag|camera bag|case for camera", "相机包|相机包|摄影包",
                "Small|Large", "小号|大号"),
        _family("durable", 3490, "Tripod|tripod|camera stand", "三脚架|三脚架|支架",
                "Travel|Studio", "旅行款|专业款"),
    )),
    ProductGroup("Dogs", "狗狗用品", (
        _family("refill", 1190, "Dry Dog Food 2 kg|dog food|dry dog food", "狗粮 2公斤|狗粮|犬粮",
                "Chicken|Lamb|Salmon|Puppy", "鸡肉|羊肉|三文鱼|幼犬"),
        _family("refill", 399, "Dog Treats|dog treats|dog snacks", "狗零食|狗零食|磨牙棒",
                "Beef Strips|Dental Sticks|Duck Bites", "牛肉条|洁齿棒|鸭肉粒"),
        _family("durable", 690, "Dog Toy|dog toy|chew toy", "狗玩具|狗玩具|磨牙玩具",
                "Rope|Squeaky Ball", "绳结|发声球"),
        _family("durable", 1290, "Dog Lead|dog lead|leash", "牵引绳|狗绳|牵引绳",
                "1.2 m|5 m Retractable", "1.2米|5米伸缩"),
    )),
    ProductGroup("Cats", "猫咪用品", (
        _family("refill", 549, "Cat Food Pouches 12 x 85 g|cat food|wet cat food", "猫罐头 12袋|猫粮|猫湿粮",
                "Tuna|Chicken|Turkey|Kitten", "金枪鱼|鸡肉|火鸡|幼猫"),
        _family("refill", 799, "Cat Litter 10 L|cat litter|litter", "猫砂 10升|猫砂|膨润土猫砂",
                "|Scented|Clumping", "|香味|结团"),
        _family("durable", 450, "Cat Toy|cat toy|feather toy", "逗猫棒|猫玩具|逗猫棒",
                "Feather Wand|Mouse", "羽毛|小老鼠"),
    )),
    ProductGroup("Tea", "茶饮", (
        _family("refill", 349, "Tea 80 Bags|tea|tea bags", "袋泡茶 80包|茶叶|茶包",
                "English Breakfast|Earl Grey|Green|Peppermint|Camomile", "红茶|伯爵|绿茶|薄荷|洋甘菊"),
        _family("refill", 219, "Biscuits|biscuits|cookies", "饼干|饼干|曲奇",
                "Oat|Chocolate|Ginger|Shortbread", "燕麦|巧克力|姜味|黄油"),
        _family("durable", 2490, "Teapot|teapot|tea pot", "茶壶|茶壶|泡茶壶",
                "600 ml|1 L", "600毫升|1升"),
    )),
    ProductGroup("Computing", "电脑配件", (
        _family("durable", 1490, "Wireless Mouse|mouse|wireless mouse", "无线鼠标|鼠标|无线鼠标",
                "|Silent", "|静音版"),
        _family("durable", 5490, "Mechanical Keyboard|keyboard|mechanical keyboard", "机械键盘|键盘|机械键盘",
                "UK Layout|Compact", "标准版|紧凑版"),
        _family("refill", 690, "USB-C Cable|usb cable|usb-c cable", "USB-C数据线|数据线|充电线",
                "1 m|2 m|2 m Braided|3 m", "1米|2米|2米 编织|3米"),
        _family("durable", 1990, "USB Hub|usb hub|hub", "USB扩展坞|扩展坞|集线器",
                "4 Port|7 Port", "4口|7口"),
    )),
    ProductGroup("Toys", "玩具", (
        _family("refill", 2490, "Building Set|building set|building bricks", "拼装积木|积木|拼装玩具",
                "Castle|Pirate Ship|Space Station|Farm", "城堡|海盗船|空间站|农场"),
        _family("refill", 890, "Figure Pack|figures|toy figures", "人偶套装|人偶|小人",
                "Knights|Pirates|Astronauts", "骑士|海盗|宇航员"),
        _family("durable", 1590, "Storage Box|toy box|storage box", "收纳箱|玩具收纳|收纳箱",
                "Small|Large", "小号|大号"),
    )),
    ProductGroup("Baby", "母婴", (
        _family("refill", 1190, "Nappies|nappies|diapers", "纸尿裤|尿不湿|纸尿裤",
                "Size 2|Size 3|Size 4|Size 5", "S码|M码|L码|XL码"),
        _family("refill", 299, "Baby Wipes|baby wipes|wipes", "婴儿湿巾|湿巾|婴儿湿巾",
                "3 Packs|12 Packs|Fragrance Free", "3包|12包|无香"),
        _family("match", 549, "Baby Lotion 300 ml|baby lotion|baby cream", "婴儿润肤乳 300毫升|润肤乳|宝宝霜",
                "|Sensitive", "|敏感肌"),
    )),
    ProductGroup("Cleaning", "家庭清洁", (
        _family("match", 790, "Laundry Detergent|detergent|washing liquid", "洗衣液|洗衣液|洗衣凝珠",
                "Lavender 1 L|Fresh Linen 1 L|Sensitive 1 L", "薰衣草 1升|清新 1升|敏感肌 1升"),
        _family("match", 450, "Fabric Softener|fabric softener|softener", "衣物柔顺剂|柔顺剂|护理剂",
                "Lavender 1 L|Fresh Linen 1 L|Sensitive 1 L", "薰衣草 1升|清新 1升|敏感肌 1升"),
        _family("refill", 890, "Dishwasher Tablets|dishwasher tablets|dish tablets", "洗碗块|洗碗块|洗碗机专用",
                "30 Pack|60 Pack|All in One 30 Pack|All in One 60 Pack", "30块|60块|多效 30块|多效 60块"),
    )),
)
# fmt: on

#: Invented brands, so no review in the sample is about a real one.
BRANDS = _split(
    "Halden|Corvane|Brightwell|Marlowe|Tessaro|Ostrava|Pinecrest|Velmora|Ashdown|Quillon|Norwick|Larkfield|Zephra|"
    "Dunmere|Castelo|Wrenford|Solvane|Harrowby|Mirabel|Kestrel|Ironbridge|Fenwick|Aldermoor|Bellhaven|Thornbury|"
    "Oakhurst|Silverlea|Rookwood|Vantis|Emberly|Northolt|Calderon|Winslade|Greyfell|Lunaris|Stanmore|Piccard|Ravello"
)
BRANDS_ZH = _split("云杉|青禾|海棠|星河|远山|白鹿|春晓|松涛|晨光里|南屏|紫竹|长风|明月湾|蓝溪|金穗|雪岭")
SYLLABLES = _split("bar|cal|den|fer|gal|hol|jun|kes|lor|mar|nor|pel|quin|ros|sel|tor|ul|ven|wil|zan")
SYLLABLES_ZH = _split("安|博|辰|德|恩|福|光|恒|佳|康|乐|美|宁|清|瑞|盛|泰|文|祥|雅")
