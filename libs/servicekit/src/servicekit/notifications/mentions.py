"""Defuses what a chat would make of a text: a mention that notifies everybody, a link that shows another address.

The texts of incidents and approvals are written by alerts and callers, and a mention in one is no reason to notify its person. A zero-width
space behind the first character of the syntax takes its meaning and leaves what is read.
"""

import re

_INVISIBLE = "\N{ZERO WIDTH SPACE}"

_MENTION = re.compile(
    # @name, @**name** (Zulip), but not the @ of a mail address …
    r"(?<![A-Za-z0-9._%+-])@(?=\S)"
    # … unless its host is a word that notifies a whole room: Discord finds it within words.
    r"|@(?=(?:everyone|here|channel|all|room|group|online)\b)"
    # <!channel>, <@U123>, <@&456>, <!subteam^S1> (Slack, Discord, Webex …), <at id="all"> (Lark), <users/all> (Google Chat)
    r"|<(?=[@!#]|at[\s>]|users/|qqbot-)"
    # [~name] (Jira), [CQ:at,qq=all] (OneBot), (met)all(met) (Kook), u/name (Reddit)
    r"|\[(?=~|CQ:)|\((?=(?:met|rol)\))|(?<![A-Za-z0-9])u(?=/[A-Za-z0-9_-])",
    re.IGNORECASE,
)
_LINK = re.compile(
    # [text](url), [text][reference] and [reference]: url (Markdown), <url|text> (Slack and what understands its syntax)
    r"\](?=[(\[:])|<(?=[A-Za-z][A-Za-z0-9+.-]*:[^\s>|]*\|)"
)


def defuse_mentions(text: str) -> str:
    """Return `text` without any mention."""
    return _MENTION.sub(rf"\g<0>{_INVISIBLE}", text)


def defuse_links(text: str) -> str:
    """Return `text` without any link whose text is not its address."""
    return _LINK.sub(rf"\g<0>{_INVISIBLE}", text)
