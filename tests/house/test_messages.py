"""Every message: a refusal says what, where, and what to do; none ends with a full stop."""

import re

from messages import messages

MESSAGES = list(messages())
REFUSALS = [message for message in MESSAGES if message.kind == "Refusal"]
FULL_STOP = re.compile(r"[^.…]\.$")


def test_there_are_messages():
    assert len(REFUSALS) > 200 and len(MESSAGES) > 300


def test_a_refusal_says_what_and_where_and_what_to_do():
    assert [one for one in REFUSALS if len(one.sentences) != 3 or not all(one.sentences)] == []


def test_a_message_ends_without_a_full_stop():
    assert [one for one in MESSAGES if any(map(FULL_STOP.search, one.sentences))] == []
