"""Write the sample data sets: invented reviews in English, Chinese and German.

The files have the same bytes on every machine.
"""

import argparse
import csv
import io
import json
import random
import re
from itertools import islice
from pathlib import Path

import world

GOOD, BAD, UNDECIDED = 0, 1, None
# How often a clause reverses the polarity of its words, is a comparison, is about the whole, and is
# all that a guest writes.
TURNED, COMPARED, CONCLUDED, BARE = 0.25, 0.12, 0.5, 0.6
KINDS = {"person": "PER", "town": "LOC", "house": "ORG"}
LABELS = {GOOD: "positive", UNDECIDED: "neutral", BAD: "negative"}
SPLITS = ("train", "validation", "test")
# rows of train, validation and test; all files together stay below 3 MB
SIZES = {
    "sentiment": (7200, 500, 1000),
    "sentiment_three_classes": (1600, 200, 400),
    "sentiment_imbalanced": (1600, 200, 400),
    "translation_en_de": (2400, 150, 150),
    "translation_en_zh": (2400, 150, 150),
    "summarization_en": (1300, 100, 100),
    "summarization_zh": (800, 100, 100),
    "text": (300, 30),
    "corpus": (400, 40),
    "entities": (1600, 200, 400),
}


def pick(rng, items):
    """Return one item.

    Only `random()` is used, because its results are the same in every Python version.
    """
    return items[int(rng.random() * len(items))]


def shuffled(rng, items):
    """Return the items in random order."""
    return [
        item
        for _, _, item in sorted(
            (rng.random(), position, item) for position, item in enumerate(items)
        )
    ]


def sentence(text):
    """Return the text with a capital letter at the start of each of its sentences."""
    return re.sub(r"(^|[.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text)


class Reviewer:
    """Writes sentences in one language whose polarity follows from their structure."""

    def __init__(self, language, rng):
        self.language = language
        self.rng = rng

    def visit(self):
        """Choose what the next sentences are about, a place or a product, and its good aspects."""
        self.domain = world.DOMAINS[pick(self.rng, sorted(world.DOMAINS))]
        self.thing = pick(self.rng, self.domain["things"])[self.language]
        self.experience()

    def experience(self):
        """Choose which aspects of the place or product are good."""
        aspects = shuffled(self.rng, self.domain["aspects"])
        self.aspects = {GOOD: aspects[: len(aspects) // 2], BAD: aspects[len(aspects) // 2 :]}

    def say(self, table):
        """Return one entry of a table of the world in this language."""
        return pick(self.rng, table[self.language])

    def turn(self, tables, verdict):
        """Return a template and the polarity of the words that give the wanted verdict in it."""
        turned = int(self.rng.random() < TURNED)
        return pick(self.rng, tables[self.language][turned]), verdict ^ turned

    def aspect(self, verdict):
        """Return an aspect that deserves the verdict: its noun and its pairs of adjectives."""
        noun, qualities = pick(self.rng, self.aspects[verdict])
        return noun, [world.QUALITIES[name] for name in [*qualities.split(), "general", "great"]]

    def subject(self, noun):
        """Return the noun as the subject of a clause."""
        return {"en": "the " + noun["en"], "zh": noun["zh"]}[self.language]

    def judge(self, verdict):
        """Return a clause that gives the verdict on an aspect."""
        noun, qualities = self.aspect(verdict)
        template, polarity = self.turn(world.JUDGEMENTS, verdict)
        return template.format(
            subject=self.subject(noun), word=pick(self.rng, qualities)[self.language][polarity]
        )

    def state(self, polarity, verdict):
        """Return the shortest clause of this polarity about an aspect that deserves the verdict."""
        noun, qualities = self.aspect(verdict)
        word = pick(self.rng, qualities)[self.language][polarity]
        return world.JUDGEMENTS[self.language][0][0].format(subject=self.subject(noun), word=word)

    def compare(self, verdict):
        """Return a clause that compares one aspect with another time or place."""
        noun, _ = self.aspect(verdict)
        template, polarity = self.turn(world.COMPARISONS, verdict)
        word = world.COMPARATIVES[self.language][polarity]
        return template.format(
            subject=self.subject(noun), noun=noun[self.language], thing=self.thing, word=word
        )

    def conclude(self, verdict):
        """Return a clause about the place or product as a whole."""
        turned = int(self.rng.random() < TURNED)
        return self.say(world.VERDICTS)[turned][verdict ^ turned].format(thing=self.thing)

    def detail(self, verdict):
        """Return a clause about one aspect."""
        return self.compare(verdict) if self.rng.random() < COMPARED else self.judge(verdict)

    def clause(self, verdict):
        """Return a clause about one aspect, or about the whole."""
        return self.conclude(verdict) if self.rng.random() < CONCLUDED else self.detail(verdict)

    def plain(self, verdict):
        """Return a sentence whose clauses all say the same."""
        return self.say(world.PLAIN).format(clause=self.clause(verdict), other=self.clause(verdict))

    def contrast(self, verdict):
        """Return a sentence of two opposite clauses of which one decides."""
        return self.say(world.CONTRASTS).format(
            major=self.clause(verdict), minor=self.detail(1 - verdict)
        )

    def report(self, verdict):
        """Return a sentence that confirms or disputes a clause."""
        template, polarity = self.turn(world.REPORTS, verdict)
        return template.format(clause=self.state(polarity, verdict))

    def rumour(self, verdict):
        """Return what was said beforehand and whether it came true."""
        heard, *outcomes = world.RUMOURS[self.language]
        turned = int(self.rng.random() < TURNED)
        clause = self.state(verdict ^ turned, verdict)
        return pick(self.rng, heard).format(clause=clause) + pick(self.rng, outcomes[turned])

    def sarcasm(self, verdict):
        """Return an exclamation, meant or not, about an event that came or stayed away."""
        exclamations, *templates = world.SARCASM[self.language]
        turned = int(self.rng.random() < 0.5)
        event = pick(self.rng, world.EVENTS[self.language][verdict ^ turned])
        exclamation = pick(self.rng, exclamations)
        return pick(self.rng, templates[turned]).format(exclamation=exclamation, event=event)

    def neutral(self):
        """Return a sentence in which the writer does not decide."""
        noun, qualities = self.aspect(pick(self.rng, [GOOD, BAD]))
        better, worse = pick(self.rng, qualities)[self.language]
        words = {
            "good": self.detail(GOOD),
            "bad": self.detail(BAD),
            "better": better,
            "worse": worse,
        }
        return self.say(world.NEUTRAL).format(subject=self.subject(noun), **words)

    def review(self, verdict):
        """Return a sentence of the given verdict: GOOD, BAD or UNDECIDED."""
        if verdict is UNDECIDED:
            return sentence(self.neutral())
        kinds = (
            [self.plain] * 6
            + [self.contrast] * 10
            + [self.report, self.rumour] * 2
            + [self.sarcasm]
        )
        return sentence(pick(self.rng, kinds)(verdict))

    def article(self):
        """Return a review article and the one sentence that sums it up."""
        self.visit()
        texts = world.ARTICLES[self.language]
        first, second = (pick(self.rng, part) for part in world.NAMES[self.language])
        verdict, returns = pick(self.rng, [GOOD, BAD]), pick(self.rng, [True, False])
        decisive, qualities = self.aspect(verdict)
        facts = {
            "name": f"{first} {second}" if self.language == "en" else first + second,
            "thing": self.thing,
            "subject": self.subject(decisive),
            "word": pick(self.rng, qualities)[self.language][verdict],
        }
        parts = ["name", "decisive", "again" if returns else "never"]
        body = [
            pick(self.rng, texts[part]).format(friend=pick(self.rng, texts["friend"]), **facts)
            for part in parts
        ]
        body += [self.filler(decisive) for _ in range(1 + int(self.rng.random() * 3))]
        opening = [
            text.format(day=pick(self.rng, texts["day"]), friend=pick(self.rng, texts["friend"]))
            for text in shuffled(self.rng, texts["opening"])[: 1 + int(self.rng.random() * 2)]
        ]
        document = sentence(self.space().join(opening + shuffled(self.rng, body)))
        return document, sentence(texts["summary"][verdict][1 - returns].format(**facts))

    def filler(self, decisive):
        """Return a sentence about an aspect that does not decide."""
        verdict = pick(self.rng, [GOOD, BAD])
        noun, qualities = self.aspect(verdict)
        if noun is decisive:
            return self.filler(decisive)
        word = pick(self.rng, qualities)[self.language][verdict]
        return pick(self.rng, world.ARTICLES[self.language]["filler"]).format(
            subject=self.subject(noun), word=word
        )

    def space(self):
        """Return what stands between two sentences."""
        return {"en": " ", "zh": ""}[self.language]

    def entry(self, held_out):
        """Return what one guest wrote: a sentence, and the stars of its verdict.

        Nothing else gives the verdict away.
        """
        self.experience()
        verdict = pick(self.rng, [GOOD, BAD])
        bare = self.rng.random() < BARE
        plain = world.PLAIN[self.language][0]
        text = sentence(plain.format(clause=self.clause(verdict))) if bare else self.review(verdict)
        return self.entry(held_out) if text in held_out else f"{text} {world.STARS[verdict]}"

    def paragraph(self, held_out):
        """Return a page of a guest book."""
        return " ".join(self.entry(held_out) for _ in range(3 + int(self.rng.random() * 3)))

    def document(self, held_out):
        """Return the guest book of one place or product; every guest has another opinion."""
        self.visit()
        return "\n".join(self.paragraph(held_out) for _ in range(3 + int(self.rng.random() * 3)))


def german_forms(noun, word, mark):
    """Return the forms of a German noun and adjective that the parallel sentences ask for."""
    article, name = noun.split(" ")
    stem = word.removesuffix("e")
    forms = {"a" + mark: word}
    for case, (form, ending) in world.ENDINGS[article].items():
        forms[case + mark] = f"{form} {name}"
        forms[case + "_a" + mark] = f"{form} {stem}{ending} {name}"
    return forms


def forms_of(language, thing, aspects):
    """Return everything that the parallel sentences of one language may ask for."""
    forms = {"thing": thing[language]}
    if language == "de":
        article, name = thing["de"].split(" ")
        forms.update(
            {case: f"{form} {name}" for case, form in world.DEMONSTRATIVES[article].items()}
        )
    for mark, (noun, word) in zip(["", "2"], aspects, strict=True):
        if language == "de":
            forms.update(german_forms(noun["de"], word["de"], mark))
        else:
            forms.update({"s" + mark: noun[language], "a" + mark: word[language]})
    if language == "en":
        forms["article_a"] = ("an " if forms["a"][0] in "aeiou" else "a ") + forms["a"]
    return forms


def translations(rng, language):
    """Yield sentences in English and in another language without end."""
    while True:
        domain = world.DOMAINS[pick(rng, sorted(world.DOMAINS))]
        aspects = []
        for noun, qualities in shuffled(rng, domain["aspects"])[:2]:
            words = world.QUALITIES[pick(rng, [*qualities.split(), "general", "great"])]
            polarity = pick(rng, [GOOD, BAD])
            aspects.append((noun, {name: pair[polarity] for name, pair in words.items()}))
        thing = pick(rng, domain["things"])
        templates = dict(zip(["en", "de", "zh"], pick(rng, world.TRANSLATIONS), strict=True))
        yield tuple(
            sentence(templates[name].format(**forms_of(name, thing, aspects)))
            for name in ["en", language]
        )


def reviews(rng, verdicts):
    """Yield sentences and labels without end.

    They are dealt from decks, so that every split has the same shares of labels and languages.
    """
    writers = {language: Reviewer(language, rng) for language in ["en", "zh"]}
    deck = [(verdict, language) for verdict in verdicts for language in ["en"] * 11 + ["zh"] * 9]
    while True:
        for verdict, language in shuffled(rng, deck):
            writers[language].visit()
            yield writers[language].review(verdict), LABELS[verdict]


def articles(rng, language):
    """Yield review articles and their summaries without end."""
    writer = Reviewer(language, rng)
    while True:
        yield writer.article()


def documents(rng, held_out):
    """Yield guest books without end, in both languages and without the sentences in `held_out`."""
    writers = [Reviewer(language, rng) for language in ["en", "zh"]]
    while True:
        yield (pick(rng, writers).document(held_out),)


def paragraphs(rng, held_out):
    """Yield the pages of guest books without end."""
    for (text,) in documents(rng, held_out):
        yield from ((line,) for line in text.split("\n"))


def words(text, language):
    """Return the words and marks of a text; in Chinese its characters."""
    return list(text) if language == "zh" else re.findall(r"[\w'-]+|[^\w\s]", text)


def name_of(rng, language, kind):
    """Return a name of a person, a town or a house."""
    first, last = world.PEOPLE[language]
    if kind == "town":
        return pick(rng, world.TOWNS[language])
    if kind == "person":
        whole = pick(rng, first) + {"en": " ", "zh": ""}[language] + pick(rng, last)
        alone = pick(rng, {"en": first, "zh": last}[language])
        return pick(rng, [whole, alone])
    parts = dict(zip(["first", "second"], world.NAMES[language], strict=True))
    names = {name: pick(rng, part) for name, part in parts.items()}
    names |= {"person": pick(rng, {"en": first, "zh": last}[language])}
    names |= {"town": pick(rng, world.TOWNS[language])}
    return pick(rng, world.HOUSES[language]).format(**names)


def mention(writer, language):
    """Return the words of a sentence that names people, towns and houses, and their labels."""
    writer.visit()
    found, labels = [], []
    for part in re.split(r"\{(\w+)\}", pick(writer.rng, world.MENTIONS[language])):
        kind = KINDS.get(part)
        text = name_of(writer.rng, language, part) if kind else part
        if part == "clause":
            text = writer.clause(pick(writer.rng, [GOOD, BAD]))
        own = words(text, language)
        inside = [f"I-{kind}"] * (len(own) - 1)
        labels += [f"B-{kind}", *inside] if kind else ["O"] * len(own)
        found += own
    found[0] = found[0][:1].upper() + found[0][1:]
    return tuple(found), tuple(labels)


def mentions(rng):
    """Yield labelled sentences without end, in English and in Chinese."""
    writers = {language: Reviewer(language, rng) for language in ["en", "zh"]}
    while True:
        language = pick(rng, ["en"] * 11 + ["zh"] * 9)
        yield mention(writers[language], language)


def split(rows, folder):
    """Return the rows of a data set by split; no first column appears twice."""
    seen = set()
    fresh = (row for row in rows if row[0] not in seen and not seen.add(row[0]))
    return {
        name: list(islice(fresh, size)) for name, size in zip(SPLITS, SIZES[folder], strict=False)
    }


def sentence_lines(words, labels):
    """Return a line for each word of a sentence."""
    return "".join(f"{word}\t{label}\n" for word, label in zip(words, labels, strict=True))


def render(rows, columns, suffix):
    """Return the content of a file of these rows."""
    if suffix == "txt":
        return "".join(f"{text}\n" for (text,) in rows)
    if suffix == "conll":
        return "".join(sentence_lines(*row) + "\n" for row in rows)
    if suffix == "jsonl":
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        records = [{"translation": record} for record in records] if columns[0] == "en" else records
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    stream = io.StringIO()
    csv.writer(stream, delimiter={"csv": ",", "tsv": "\t"}[suffix], lineterminator="\n").writerows(
        [columns, *rows]
    )
    return stream.getvalue()


def data_sets():
    """Yield folder, suffix, columns and the rows by split of every data set."""
    rng = {folder: random.Random(folder) for folder in SIZES}
    held_out = set()
    for folder, suffix, verdicts in [
        ("sentiment", "csv", [GOOD, BAD]),
        ("sentiment_three_classes", "jsonl", [GOOD, UNDECIDED, BAD]),
        ("sentiment_imbalanced", "tsv", [GOOD] * 9 + [BAD]),
    ]:
        splits = split(reviews(rng[folder], verdicts), folder)
        held_out.update(text for name in ["validation", "test"] for text, _ in splits[name])
        yield folder, suffix, ["text", "label"], splits
    for language in ["de", "zh"]:
        folder = f"translation_en_{language}"
        yield folder, "jsonl", ["en", language], split(translations(rng[folder], language), folder)
    for language in ["en", "zh"]:
        folder = f"summarization_{language}"
        yield (
            folder,
            "jsonl",
            ["document", "summary"],
            split(articles(rng[folder], language), folder),
        )
    yield "entities", "conll", ["tokens", "tags"], split(mentions(rng["entities"]), "entities")
    yield "text", "txt", ["text"], split(paragraphs(rng["text"], held_out), "text")
    yield "corpus", "jsonl", ["text"], split(documents(rng["corpus"], held_out), "corpus")


def main():
    """Write every file below the output folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output_dir", type=Path, default=Path(__file__).parent, help="default: this folder"
    )
    output_dir = parser.parse_args().output_dir
    for folder, suffix, columns, splits in data_sets():
        for name, rows in splits.items():
            path = output_dir / folder / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(render(rows, columns, suffix), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
