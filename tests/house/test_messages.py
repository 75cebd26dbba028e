"""Every message: a refusal says what, where, and what to do; none ends with a full stop."""

import re

import pytest
from messages import messages

MESSAGES = list(messages())
REFUSALS = [message for message in MESSAGES if message.kind == "Refusal"]
FULL_STOP = re.compile(r"[^.…]\.$")


def test_there_are_messages():
    assert len(REFUSALS) > 200 and len(MESSAGES) > 300


@pytest.mark.parametrize("message", REFUSALS, ids=lambda message: message.place)
def test_a_refusal_says_what_and_where_and_what_to_do(message):
    assert len(message.sentences) == 3
    assert all(message.sentences)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.place)
def test_a_message_ends_without_a_full_stop(message):
    assert not [sentence for sentence in message.sentences if FULL_STOP.search(sentence)]
