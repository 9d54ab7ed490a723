"""What a chat would understand in a text means nothing any more, and reads as before."""

import pytest

from servicekit.notifications.mentions import defuse_links, defuse_mentions

INVISIBLE = "\u200b"

MENTIONS = {
    "everyone": "@everyone the disk is full",
    "here": "ask @here",
    "in a word": "x@everyone",
    "of a room": "@room @channel @all",
    "upper case": "@EVERYONE",
    "a person": "by @alice",
    "after other letters": "担当@bob",
    "after a bracket": "(@alice)",
    "Slack's channel": "<!channel> and <!here|here>",
    "Slack's user": "<@U123ABC>",
    "Slack's group": "<!subteam^S123|ops>",
    "Discord's user": "<@123456789012345678>",
    "Discord's nickname": "<@!123456789012345678>",
    "Discord's role": "<@&123456789012345678>",
    "Zulip's everybody": "@**all** @_**Bob**",
    "Google Chat's everybody": "<users/all>",
    "Lark's everybody": '<at user_id="all"></at>',
    "Webex's everybody": "<@all>",
    "Mastodon's account": "@alice@example.org",
    "Jira's account": "[~accountid:123]",
    "OneBot's code": "[CQ:at,qq=all]",
    "Kook's everybody": "(met)all(met)",
    "Reddit's user": "see u/alice, /u/bob",
}
SYNTAX = (
    "@everyone", "@here", "@room", "@channel", "@all", "@EVERYONE", "@alice", "@bob", "<!", "<@", "@**", "@_", "<users/", "<at ",
    "[~", "[CQ:", "(met)", "u/alice", "u/bob",
)  # fmt: skip


@pytest.mark.parametrize("text", MENTIONS.values(), ids=MENTIONS)
def test_a_mention_is_none_any_more_and_reads_as_before(text: str) -> None:
    defused = defuse_mentions(text)
    assert any(each in text for each in SYNTAX)
    assert not [each for each in SYNTAX if each in defused]
    assert defused.replace(INVISIBLE, "") == text


@pytest.mark.parametrize(
    "text",
    [
        "alice@example.org",
        "a < b @ 5",
        "load@5m",
        "queue <orders>",
        "menu/item",
        "[x] done (all)",
        "mailto:a.b@c.example",
    ],
)
def test_what_is_no_mention_is_unchanged(text: str) -> None:
    assert defuse_mentions(text) == text


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("[log in](https://evil.example)", "]("),
        ("[log in][1]\n[1]: https://evil.example", "]["),
        ("[1]: https://evil.example", "]:"),
        ("![x](https://evil.example/pixel.png)", "]("),
        ("<https://evil.example|log in>", "<https"),
    ],
)
def test_a_link_with_a_text_of_its_own_is_none_any_more(text: str, gone: str) -> None:
    defused = defuse_links(text)
    assert gone not in defused
    assert defused.replace(INVISIBLE, "") == text


@pytest.mark.parametrize(
    "text", ["see https://wiki.example/db-1", "<https://wiki.example>", "[db-1] (down)", "a[1]"]
)
def test_a_plain_address_is_unchanged(text: str) -> None:
    assert defuse_links(text) == text
