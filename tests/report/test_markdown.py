"""Users' texts are shown as they are, and never read as markup.

They are rendered as the Hub renders them.
"""

import csv
import html
import re
import shlex

import pytest
from conftest import SCRATCH, SHORT, load_recipe, merged
from markdown_it import MarkdownIt
from test_bad_text_inputs import STEP, TRAIN

from recipes.common.report import markdown

NASTY = [
    '<img src="https://x.org/track.png">',
    "A good film.<br /><br />A bad one.",
    "<script>alert(1)</script> <b>bold</b>",
    "![picture](https://x.org/track.png) and [link](https://x.org)",
    "a | b || c \\| d",
    "`code` and ``more`` `",
    "$x_1$ costs $5 and $$y$$",
    "*stars* **two** _under_ __two__ snake_case ~~gone~~",
    "back\\slash \\* &lt; &amp; &#36; AT&T R&D;",
    "# heading",
    "- a list",
    "1. a number",
    "> a quotation",
    "--- | ---",
    ":smile: 12:30:45 https://x.org www.x.org",
    "<!-- a comment --> <https://x.org>",
    "好 | 坏 <br>",
]


def rendered(text):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


def shown(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page)).strip()


def test_there_are_many_nasty_texts():
    assert len(NASTY) >= 15


@pytest.mark.parametrize("value", NASTY)
def test_a_cell_shows_the_text_and_nothing_else(value):
    page = rendered(f"| a | b |\n|---|---|\n| {markdown.text(value)} | end |\n")
    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    assert [shown(cell) for cell in cells] == [value, "end"]
    assert not re.findall(r"<(?!/?(?:table|thead|tbody|tr|th|td)\b)", page)


@pytest.mark.parametrize("value", NASTY)
def test_code_shows_the_text_and_nothing_else(value):
    page = rendered(f"It answers with {markdown.code(value)}.")
    assert html.unescape(page.strip()) == f"<p>It answers with <code>{value}</code>.</p>"


@pytest.mark.parametrize("value", [*NASTY, "```", "````\n```"])
def test_a_block_shows_its_text_and_ends_where_it_ends(value):
    page = rendered(markdown.block(value, "bash") + "\n\nafter")
    assert (
        html.unescape(page)
        == f'<pre><code class="language-bash">{value}\n</code></pre>\n<p>after</p>\n'
    )


def check_card(folder, texts=()):
    """Renders a card: all markup in it is this project's, and it shows the texts as they are."""
    card = (folder / "README.md").read_text(encoding="utf-8").partition("\n---\n")[2]
    page = rendered(card)
    sources = re.findall(r'<img src="([^"]*)"', page)
    assert sources and all(source.startswith("plots/") for source in sources)
    usual = "h1|h2|p|ul|li|table|thead|tbody|tr|th|td|pre|code|img"
    assert not re.findall(rf"<(?!/?(?:{usual})\b)[^>]*>", page)
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    tables = [len(re.findall("<t[hd]", row)) for row in rows]
    assert set(tables) <= {2, 3, 4, 5}
    cells = [shown(cell) for cell in re.findall(r"<td>(.*?)</td>", page, re.DOTALL)]
    assert all(text in cells for text in texts)
    return page


def test_a_card_of_a_classifier_shows_texts_and_labels_as_they_are(sentiment, in_tmp_path):
    labels = ["<b>good</b> | `yes`", "$bad_$ $\\frac$ ![x](y)"]
    with open("train data.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows((f"{NASTY[n % len(NASTY)]} {n}", labels[n % 2]) for n in range(80))
    folder = "out `put` $x"
    sentiment.main(
        merged(*SCRATCH, *SHORT, "--train_file", "train data.csv", "--output_dir", folder)
    )
    page = check_card(in_tmp_path / folder)
    assert all(f"<code>{html.escape(label)}</code>" in page for label in labels)
    assert any(shown(row) in labels for row in re.findall(r"<td>(.*?)</td>", page))
    (command,) = re.findall(r'<code class="language-bash">(.*?)\n</code>', page, re.DOTALL)
    words = shlex.split(html.unescape(command))
    assert words[2:] == ["--config", f"{folder}/run.yaml", "--output_dir", f"{folder}_again"]


@pytest.mark.parametrize("recipe", ["mlm_pretrain", "summarization"])
def test_cards_of_texts_show_them_as_they_are(recipe, in_tmp_path):
    import json

    rows = [
        {"text": f"{text} {n}", "document": f"{text} {n}", "summary": text}
        for n, text in enumerate(NASTY * 3)
    ]
    (in_tmp_path / "x.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    options = ["--do_train", "--do_eval", "--train_file", "x.jsonl"]
    load_recipe(recipe).main(merged(*TRAIN[recipe], *STEP, *options))
    check_card(in_tmp_path / "out")
