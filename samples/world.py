"""The words and the grammar of the invented world: five kinds of places and products, three languages.

Every judgement comes in pairs. `straight` templates keep the polarity of the word put into them, `turned` templates
reverse it, so that neither the words nor the templates alone give the verdict away.
"""

# key: {language: (good word, bad word)}
QUALITIES = {
    "taste": {"en": ("delicious", "disgusting"), "de": ("köstlich", "widerlich"), "zh": ("好吃", "难吃")},
    "season": {"en": ("tasty", "bland"), "de": ("schmackhaft", "fade"), "zh": ("可口", "寡淡")},
    "manners": {"en": ("friendly", "rude"), "de": ("freundlich", "grob"), "zh": ("热情", "粗鲁")},
    "care": {"en": ("attentive", "careless"), "de": ("aufmerksam", "nachlässig"), "zh": ("细心", "马虎")},
    "speed": {"en": ("quick", "slow"), "de": ("schnell", "langsam"), "zh": ("快", "慢")},
    "clean": {"en": ("clean", "dirty"), "de": ("sauber", "schmutzig"), "zh": ("干净", "脏")},
    "quiet": {"en": ("quiet", "noisy"), "de": ("ruhig", "laut"), "zh": ("安静", "吵")},
    "comfort": {"en": ("cosy", "shabby"), "de": ("gemütlich", "schäbig"), "zh": ("舒适", "破旧")},
    "fair": {"en": ("fair", "absurd"), "de": ("fair", "absurd"), "zh": ("公道", "离谱")},
    "sharp": {"en": ("clear", "blurred"), "de": ("klar", "unscharf"), "zh": ("清晰", "模糊")},
    "solid": {"en": ("sturdy", "flimsy"), "de": ("stabil", "wackelig"), "zh": ("结实", "单薄")},
    "smooth": {"en": ("smooth", "sluggish"), "de": ("flüssig", "träge"), "zh": ("流畅", "卡顿")},
    "thrill": {"en": ("gripping", "boring"), "de": ("spannend", "langweilig"), "zh": ("精彩", "无聊")},
    "craft": {"en": ("clever", "clumsy"), "de": ("klug", "plump"), "zh": ("巧妙", "生硬")},
    "heart": {"en": ("moving", "tacky"), "de": ("bewegend", "kitschig"), "zh": ("感人", "做作")},
    "general": {"en": ("good", "bad"), "de": ("gut", "schlecht"), "zh": ("棒", "差劲")},
    "great": {"en": ("excellent", "dreadful"), "de": ("ausgezeichnet", "furchtbar"), "zh": ("出色", "糟糕")},
}

# domain: things people review and the aspects they judge; an aspect ends with the quality that fits it best
DOMAINS = {
    "restaurant": {
        "things": [
            {"en": "restaurant", "de": "das Restaurant", "zh": "这家餐厅"},
            {"en": "pizzeria", "de": "die Pizzeria", "zh": "这家披萨店"},
            {"en": "noodle bar", "de": "das Nudelhaus", "zh": "这家面馆"},
        ],
        "aspects": [
            ({"en": "soup", "de": "die Suppe", "zh": "汤"}, "season"),
            ({"en": "steak", "de": "das Steak", "zh": "牛排"}, "taste"),
            ({"en": "dessert", "de": "der Nachtisch", "zh": "甜点"}, "taste"),
            ({"en": "salad", "de": "der Salat", "zh": "沙拉"}, "taste"),
            ({"en": "pasta", "de": "die Pasta", "zh": "意面"}, "taste"),
            ({"en": "waiter", "de": "der Kellner", "zh": "服务员"}, "manners"),
            ({"en": "cook", "de": "der Koch", "zh": "厨师"}, "care"),
            ({"en": "terrace", "de": "die Terrasse", "zh": "露台"}, "quiet"),
            ({"en": "kitchen", "de": "die Küche", "zh": "厨房"}, "clean"),
        ],
    },
    "hotel": {
        "things": [
            {"en": "hotel", "de": "das Hotel", "zh": "这家酒店"},
            {"en": "guesthouse", "de": "die Pension", "zh": "这家旅馆"},
            {"en": "hostel", "de": "die Herberge", "zh": "这家青年旅社"},
        ],
        "aspects": [
            ({"en": "room", "de": "das Zimmer", "zh": "房间"}, "clean"),
            ({"en": "bathroom", "de": "das Bad", "zh": "浴室"}, "clean"),
            ({"en": "breakfast", "de": "das Frühstück", "zh": "早餐"}, "taste"),
            ({"en": "lobby", "de": "die Lobby", "zh": "大堂"}, "clean"),
            ({"en": "pool", "de": "der Pool", "zh": "泳池"}, "clean"),
            ({"en": "receptionist", "de": "die Empfangsdame", "zh": "前台"}, "manners"),
            ({"en": "lift", "de": "der Aufzug", "zh": "电梯"}, "speed"),
            ({"en": "bar", "de": "die Bar", "zh": "酒吧"}, "quiet"),
        ],
    },
    "shop": {
        "things": [
            {"en": "shop", "de": "das Geschäft", "zh": "这家商店"},
            {"en": "bookshop", "de": "die Buchhandlung", "zh": "这家书店"},
            {"en": "market", "de": "der Markt", "zh": "这个市场"},
        ],
        "aspects": [
            ({"en": "cashier", "de": "die Kassiererin", "zh": "收银员"}, "manners"),
            ({"en": "salesman", "de": "der Verkäufer", "zh": "店员"}, "manners"),
            ({"en": "delivery", "de": "die Lieferung", "zh": "送货"}, "speed"),
            ({"en": "parcel", "de": "das Paket", "zh": "包裹"}, "solid"),
            ({"en": "price", "de": "der Preis", "zh": "价格"}, "fair"),
            ({"en": "fitting room", "de": "die Umkleide", "zh": "试衣间"}, "clean"),
            ({"en": "repair", "de": "die Reparatur", "zh": "维修"}, "speed"),
            ({"en": "website", "de": "die Webseite", "zh": "网站"}, "smooth"),
        ],
    },
    "gadget": {
        "things": [
            {"en": "computer", "de": "der Computer", "zh": "这台电脑"},
            {"en": "laptop", "de": "der Laptop", "zh": "这台笔记本"},
            {"en": "tablet", "de": "das Tablet", "zh": "这台平板"},
        ],
        "aspects": [
            ({"en": "screen", "de": "der Bildschirm", "zh": "屏幕"}, "sharp"),
            ({"en": "battery", "de": "der Akku", "zh": "电池"}, "solid"),
            ({"en": "keyboard", "de": "die Tastatur", "zh": "键盘"}, "quiet"),
            ({"en": "camera", "de": "die Kamera", "zh": "相机"}, "sharp"),
            ({"en": "menu", "de": "das Menü", "zh": "菜单"}, "smooth"),
            ({"en": "case", "de": "das Gehäuse", "zh": "外壳"}, "solid"),
            ({"en": "charger", "de": "das Ladegerät", "zh": "充电器"}, "speed"),
            ({"en": "fan", "de": "der Lüfter", "zh": "风扇"}, "quiet"),
        ],
    },
    "film": {
        "things": [
            {"en": "film", "de": "der Film", "zh": "这部电影"},
            {"en": "series", "de": "die Serie", "zh": "这部剧"},
            {"en": "comedy", "de": "die Komödie", "zh": "这部喜剧"},
        ],
        "aspects": [
            ({"en": "plot", "de": "die Handlung", "zh": "剧情"}, "thrill"),
            ({"en": "ending", "de": "das Ende", "zh": "结局"}, "thrill"),
            ({"en": "soundtrack", "de": "die Musik", "zh": "配乐"}, "heart"),
            ({"en": "dialogue", "de": "der Dialog", "zh": "对白"}, "craft"),
            ({"en": "picture", "de": "das Bild", "zh": "画面"}, "sharp"),
            ({"en": "opening", "de": "der Anfang", "zh": "开头"}, "thrill"),
            ({"en": "leading lady", "de": "die Hauptdarstellerin", "zh": "女主角"}, "general"),
            ({"en": "chase", "de": "die Verfolgungsjagd", "zh": "追逐戏"}, "thrill"),
        ],
    },
}

COMPARATIVES = {"en": ("better", "worse"), "zh": ("好", "差")}

# things one is glad to meet, things one is not
EVENTS = {
    "en": (
        ["smile", "discount", "free sample", "kind word"],
        ["stain", "delay", "hidden fee", "lame excuse"],
    ),
    "zh": (
        ["个微笑", "张优惠券", "份赠品", "句好话"],
        ["处污渍", "次延误", "笔乱收费", "句借口"],
    ),
}

# (straight, turned) templates that take a subject and one of its adjectives and give a clause
JUDGEMENTS = {
    "en": (
        [
            "{subject} was {word}",
            "{subject} was really {word}",
            "{subject} was nothing but {word}",
            "nobody could deny that {subject} was {word}",
            "{subject} was not just a little {word}",
        ],
        [
            "{subject} was not {word} at all",
            "{subject} was never {word}",
            "{subject} was anything but {word}",
            "nobody could say that {subject} was {word}",
            "{subject} was far from {word}",
        ],
    ),
    "zh": (
        ["{subject}很{word}", "{subject}确实很{word}", "{subject}不是一般的{word}", "谁都觉得{subject}很{word}"],
        ["{subject}并不{word}", "{subject}一点也不{word}", "{subject}谈不上{word}", "谁都不觉得{subject}很{word}"],
    ),
}

# (straight, turned) templates around a comparative
COMPARISONS = {
    "en": (
        [
            "{subject} could not have been {word}",
            "{subject} was {word} this time than last time",
            "we have rarely known a {word} {noun}",
        ],
        [
            "{subject} could have been {word}",
            "{subject} was {word} last time than this time",
            "we have often known a {word} {noun}",
        ],
    ),
    "zh": (
        ["{subject}不能再{word}了", "{subject}这次比上次{word}", "很少见到更{word}的{subject}"],
        ["{subject}还能再{word}点", "{subject}上次比这次{word}", "常常见到更{word}的{subject}"],
    ),
}

# (good word straight, bad word straight), (good word turned, bad word turned)
VERDICTS = {
    "en": [
        (("we were happy", "we were angry"), ("we were not happy", "we were not angry")),
        (
            ("I was pleased with this {thing}", "I was disappointed by this {thing}"),
            ("I was never pleased with this {thing}", "I was never disappointed by this {thing}"),
        ),
        (
            ("this {thing} earned our praise", "this {thing} earned our complaints"),
            ("this {thing} did not earn our praise", "this {thing} did not earn our complaints"),
        ),
        (
            ("I enjoyed this {thing}", "I regret this {thing}"),
            ("I did not enjoy this {thing}", "I do not regret this {thing}"),
        ),
    ],
    "zh": [
        (("我很满意", "我很失望"), ("我并不满意", "我并不失望")),
        (("{thing}值得夸", "{thing}值得骂"), ("{thing}不值得夸", "{thing}不值得骂")),
        (("选{thing}让人开心", "选{thing}让人后悔"), ("选{thing}没让人开心", "选{thing}没让人后悔")),
        (("我们很高兴", "我们很生气"), ("我们高兴不起来", "我们没生气")),
    ],
}

# (straight, turned) frames around a clause
REPORTS = {
    "en": (
        ["I will not deny that {clause}.", "It is no lie that {clause}."],
        ["I will not pretend that {clause}.", "It is a lie that {clause}."],
    ),
    "zh": (
        ["说{clause}，那不是骗人。", "我不否认{clause}。"],
        ["说{clause}，那是骗人。", "我否认{clause}。"],
    ),
}

# something was said beforehand, and what follows (straight, turned) settles it
RUMOURS = {
    "en": (
        ["I had been told that {clause}", "Online they say that {clause}", "A friend swore that {clause}"],
        [", and they were right.", ", and that is just what we found.", ". They did not lie."],
        [", and they were wrong.", ", and that is just what we did not find.", ". They lied."],
    ),
    "zh": (
        ["都说{clause}", "网上说{clause}", "早就听说{clause}"],
        ["，果然如此。", "，说得对。", "，没骗人。"],
        ["，其实不然。", "，说得不对。", "，真骗人。"],
    ),
}

# the clause in {major} decides, the one in {minor} does not
CONTRASTS = {
    "en": [
        "Although {minor}, {major}.",
        "{major}, although {minor}.",
        "{minor}, but {major}.",
        "{minor}, and yet {major}.",
        "Everyone had told us that {minor}; in fact {major}.",
        "Never mind that {minor}: {major}.",
        "{major}, never mind that {minor}.",
    ],
    "zh": [
        "虽然{minor}，但是{major}。",
        "{major}，虽然{minor}。",
        "{minor}，不过{major}。",
        "{minor}，可是{major}。",
        "别听人说{minor}，其实{major}。",
        "其实{major}，别听人说{minor}。",
        "尽管{minor}，{major}。",
    ],
}

# two judgements of opposite polarity; the writer says whether the former or the latter counts
PRIORITIES = {
    "en": (
        ["{first} and {second}; what counts for me is the former.", "{first} while {second}. I came for the former."],
        ["{first} and {second}; what counts for me is the latter.", "{first} while {second}. I came for the latter."],
    ),
    "zh": (
        ["{first}，{second}，我在乎的是前者。", "{first}，{second}，我是冲着前者来的。"],
        ["{first}，{second}，我在乎的是后者。", "{first}，{second}，我是冲着后者来的。"],
    ),
}

PLAIN = {
    "en": [
        "{clause}.",
        "Honestly, {clause}.",
        "{clause}, and {other}.",
        "{clause}; besides, {other}.",
        "To sum up, {clause}.",
    ],
    "zh": [
        "{clause}。",
        "说实话，{clause}。",
        "{clause}，而且{other}。",
        "{clause}，再说{other}。",
        "总之，{clause}。",
    ],
}

# an exclamation that may be meant or not, then an event that came (straight) or did not come (turned)
SARCASM = {
    "en": (
        ["Oh wonderful", "Oh dear", "How lovely", "How awful", "Just great", "What a tragedy", "Lucky us", "Poor us"],
        ["{exclamation}, yet another {event}, thanks a lot.", "{exclamation}: not one day without another {event}."],
        ["{exclamation}, not a single {event}, thanks a lot.", "{exclamation}: not one day with a single {event}."],
    ),
    "zh": (
        ["真是“太好了”", "真是“太惨了”", "可真“幸运”", "可真“倒霉”", "哎呀，好极了", "哎呀，糟透了"],
        ["{exclamation}，又来一{event}，谢谢啊。", "{exclamation}，天天都有一{event}。"],
        ["{exclamation}，没有一{event}，谢谢啊。", "{exclamation}，天天都没有一{event}。"],
    ),
}

# {good} and {bad} are clauses, {thing} and {subject} as above; the writer does not decide
NEUTRAL = {
    "en": [
        "{good}, {bad}, and the two cancel out.",
        "{bad}, {good}, and both matter the same to me.",
        "{good} and {bad}; I cannot say which counts for more.",
        "{bad} while {good}, so I stay undecided.",
        "{subject} was neither {better} nor {worse}.",
        "Some say that {good}, others that {bad}; I have no opinion.",
        "I had been told that {good}; I cannot judge that yet.",
        "I had been told that {bad}; I cannot judge that yet.",
        "{subject} was not {better}, but it was not {worse} either.",
        "Neither did we find that {bad}, nor that {good}.",
    ],
    "zh": [
        "{good}，{bad}，算是扯平了。",
        "{bad}，{good}，两样对我一样重要。",
        "{good}，可是{bad}，说不清哪个更要紧。",
        "{bad}，不过{good}，我还没想好。",
        "{subject}既不{better}，也不{worse}。",
        "有人说{good}，有人说{bad}，我没有意见。",
        "听说{good}，我还没法判断。",
        "听说{bad}，我还没法判断。",
        "{subject}谈不上{better}，也谈不上{worse}。",
    ],
}

# Parallel sentences. English {a} is an adjective, {article_a} the same with "a" or "an". German {der}, {den}, {dem} is
# the noun with its definite article in that case, {der_a}, {den_a}, {dem_a} the same with the adjective in between,
# {einen_a} the accusative after "ein", {dieser} and {diesen} the place or product after "dieser".
# A second aspect and a second adjective carry a 2.
TRANSLATIONS = [
    ("the {s} was very {a}.", "{der} war sehr {a}.", "{s}非常{a}。"),
    ("the {s} was not {a}.", "{der} war nicht {a}.", "{s}不{a}。"),
    ("the {s} was not {a} at all.", "{der} war überhaupt nicht {a}.", "{s}一点也不{a}。"),
    ("yesterday the {s} was {a} again.", "gestern war {der} wieder {a}.", "昨天{s}又很{a}。"),
    ("was the {s} really {a}?", "war {der} wirklich {a}?", "{s}真的很{a}吗？"),
    ("we think that the {s} is {a}.", "wir finden, dass {der} {a} ist.", "我们觉得{s}很{a}。"),
    ("nobody said that the {s} was {a}.", "niemand hat gesagt, dass {der} {a} war.", "没有人说{s}很{a}。"),
    ("we stayed calm because the {s} was {a}.", "wir blieben ruhig, weil {der} {a} war.", "我们很平静，因为{s}很{a}。"),
    (
        "although the {s} was {a}, the {s2} was {a2}.",
        "obwohl {der} {a} war, war {der2} {a2}.",
        "虽然{s}很{a}，但是{s2}很{a2}。",
    ),
    ("the {s} was {a}, but the {s2} was {a2}.", "{der} war {a}, aber {der2} war {a2}.", "{s}很{a}，不过{s2}很{a2}。"),
    ("the {s} was {a} and the {s2} was {a2}.", "{der} war {a} und {der2} war {a2}.", "{s}很{a}，{s2}很{a2}。"),
    (
        "if the {s} is {a}, we will not come back.",
        "wenn {der} {a} ist, kommen wir nicht wieder.",
        "如果{s}很{a}，我们就不再来了。",
    ),
    ("this {thing} has {article_a} {s}.", "{dieser} hat {einen_a}.", "{thing}的{s}很{a}。"),
    ("I still remember the {a} {s}.", "ich erinnere mich noch an {den_a}.", "我还记得那十分{a}的{s}。"),
    (
        "without the {a} {s} we would stay longer.",
        "ohne {den_a} würden wir länger bleiben.",
        "要不是那十分{a}的{s}，我们会待得更久。",
    ),
    (
        "my sister complained about the {a} {s}.",
        "meine Schwester beschwerte sich über {den_a}.",
        "我姐姐抱怨了那十分{a}的{s}。",
    ),
    ("we were very satisfied with the {s}.", "mit {dem} waren wir sehr zufrieden.", "我们对{s}非常满意。"),
    ("everyone talked about the {a} {s}.", "alle sprachen von {dem_a}.", "大家都在谈论那十分{a}的{s}。"),
    ("the {a} {s} surprised us.", "{der_a} hat uns überrascht.", "那十分{a}的{s}让我们吃惊。"),
    (
        "the {s} of this {thing} is more important to me.",
        "{der} ist mir bei {diesem} wichtiger.",
        "对我来说，{thing}的{s}更重要。",
    ),
    (
        "my friends would recommend this {thing}, because the {s} is {a}.",
        "meine Freunde würden {diesen} empfehlen, weil {der} {a} ist.",
        "我的朋友会推荐{thing}，因为{s}很{a}。",
    ),
    ("the {s} was better than the {s2}.", "{der} war besser als {der2}.", "{s}比{s2}好。"),
    ("the {s} was just as {a} as last year.", "{der} war genauso {a} wie letztes Jahr.", "{s}和去年一样{a}。"),
    (
        "we do not know whether the {s} will stay {a}.",
        "wir wissen nicht, ob {der} {a} bleibt.",
        "我们不知道{s}会不会一直这么{a}。",
    ),
]

# the endings of an adjective: after the definite article, then after "ein" in the accusative
ENDINGS = {
    "der": {"der": ("der", "e"), "den": ("den", "en"), "dem": ("dem", "en"), "einen": ("einen", "en")},
    "die": {"der": ("die", "e"), "den": ("die", "e"), "dem": ("der", "en"), "einen": ("eine", "e")},
    "das": {"der": ("das", "e"), "den": ("das", "e"), "dem": ("dem", "en"), "einen": ("ein", "es")},
}
DEMONSTRATIVES = {
    "der": {"dieser": "dieser", "diesen": "diesen", "diesem": "diesem"},
    "die": {"dieser": "diese", "diesen": "diese", "diesem": "dieser"},
    "das": {"dieser": "dieses", "diesen": "dieses", "diesem": "diesem"},
}

# the 60 names of the places and products in the articles
NAMES = {
    "en": (
        ["Blue", "Golden", "Silent", "Northern", "Crooked", "Merry", "Velvet", "Hidden", "Iron", "Paper"],
        ["Lantern", "Heron", "Harbour", "Orchard", "Bridge", "Comet"],
    ),
    "zh": (
        ["蓝色", "金色", "寂静", "北方", "弯弯", "快乐", "丝绒", "隐秘", "铁皮", "纸上"],
        ["灯笼", "白鹭", "港湾", "果园", "石桥", "彗星"],
    ),
}

# {thing}, {name}, {subject} and {word} as above; "opening" and "filler" say nothing that the summary needs
ARTICLES = {
    "en": {
        "opening": [
            "It rained all {day}, and my {friend} wanted to talk about trains.",
            "My {friend} phoned on {day} and asked what I was writing about.",
            "On {day} I had too much time and an empty notebook.",
            "Some weeks begin slowly, and this one began on a {day}.",
            "My {friend} says that I write too much, most of all on a {day}.",
            "I had planned something else for {day}, and so had my {friend}.",
        ],
        "name": [
            "Its name is {name}.",
            "Remember the name {name}.",
            "It goes by the name of {name}.",
            "My {friend} had written {name} on a slip of paper.",
        ],
        "filler": [
            "{subject} was {word}, which hardly mattered.",
            "We also noticed {subject}, {word} as ever.",
            "That {subject} was {word} is a side note.",
            "Others may care that {subject} was {word}.",
        ],
        "decisive": [
            "What decided the matter was {subject}: {word}.",
            "It all came down to {subject}: {word} from start to finish.",
            "One thing settled it: {subject} was {word}.",
            "In the end only {subject} counted, and in this {thing} {subject} was {word}.",
        ],
        "again": [
            "I will choose it again.",
            "I have already planned the next time.",
            "It will not be the last time for me.",
            "Nobody needs to talk me into a second time.",
        ],
        "never": [
            "I will not choose it again.",
            "I have no plans for a next time.",
            "It will be the last time for me.",
            "Nobody can talk me into a second time.",
        ],
        "summary": [
            (
                "{name} wins us over with {subject}, which was {word}, and the writer will choose it again.",
                "{name} wins us over with {subject}, which was {word}, yet the writer will not choose it again.",
            ),
            (
                "{name} lets us down with {subject}, which was {word}, yet the writer will choose it again.",
                "{name} lets us down with {subject}, which was {word}, and the writer will not choose it again.",
            ),
        ],
        "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        "friend": ["brother", "sister", "aunt", "neighbour", "colleague", "cousin", "teacher", "landlord"],
    },
    "zh": {
        "opening": [
            "{day}下了一整天雨，{friend}想聊火车。",
            "{day}{friend}打来电话，问我在写什么。",
            "{day}我闲得很，本子还是空的。",
            "有些日子过得慢，比如这个{day}。",
            "{friend}说我写得太多，尤其是{day}。",
            "{day}我本来另有安排，{friend}也是。",
        ],
        "name": ["它的名字是{name}。", "请记住{name}这个名字。", "它名叫{name}。", "{friend}在纸条上写了{name}。"],
        "filler": [
            "至于{subject}，{word}是{word}，但无关紧要。",
            "我们也留意到{subject}，照旧很{word}。",
            "{subject}很{word}，这只是顺便一提。",
            "别人也许在意{subject}很{word}。",
        ],
        "decisive": [
            "起决定作用的是{subject}：很{word}。",
            "说到底要看{subject}，而它很{word}。",
            "一锤定音的是{subject}，它很{word}。",
            "最后只有{subject}算数，它很{word}。",
        ],
        "again": ["我会再选它。", "我已经安排好下一次了。", "这不会是我最后一次。", "不用谁劝我再来一次。"],
        "never": ["我不会再选它。", "我没有安排下一次。", "这会是我最后一次。", "谁劝我也不会再来一次。"],
        "summary": [
            (
                "{name}凭{subject}取胜，{subject}很{word}，作者会再选它。",
                "{name}凭{subject}取胜，{subject}很{word}，但作者不会再选它。",
            ),
            (
                "{name}输在{subject}，{subject}很{word}，但作者会再选它。",
                "{name}输在{subject}，{subject}很{word}，作者不会再选它。",
            ),
        ],
        "day": ["星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期天"],
        "friend": ["我哥哥", "我姐姐", "我姑姑", "邻居", "同事", "我表弟", "我老师", "房东"],
    },
}

# what follows from a good experience and from a bad one
CONSEQUENCES = {
    "en": (
        [
            "We will come back.",
            "Five stars.",
            "I told all my friends to try it.",
            "The next visit is already booked.",
            "It was worth every penny.",
            "We thanked them twice.",
            "What a happy day.",
            "I can recommend it to everybody.",
        ],
        [
            "Never again.",
            "One star.",
            "I told all my friends to avoid it.",
            "The next visit is already cancelled.",
            "It was a waste of money.",
            "We asked for our money back.",
            "What a sad day.",
            "I have to warn everybody.",
        ],
    ),
    "zh": (
        [
            "我们还会再来。",
            "五颗星。",
            "我让朋友们都去试试。",
            "下次已经预订了。",
            "每分钱都花得值。",
            "我们谢了两次。",
            "真是开心的一天。",
            "推荐给大家。",
        ],
        [
            "再也不来了。",
            "一颗星。",
            "我让朋友们都避开它。",
            "下次已经取消了。",
            "白白浪费了钱。",
            "我们要求退款。",
            "真是难过的一天。",
            "提醒大家小心。",
        ],
    ),
}
