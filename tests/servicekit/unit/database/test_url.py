"""The form of a database URL: what the driver takes passes, and what quotes a password when it fails does not."""

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.database.url import check_database_url

GOOD = [
    "postgresql://app:hunter2@db:5432/incident",
    "postgres://app:hunter2@db/incident",
    "postgresql://db/incident",
    "postgresql:///incident",
    "postgresql://",
    "postgresql:///incident?host=/run/postgresql&user=app&password=hunter2",
    "postgresql://app@/incident?host=/run/postgresql",
    "postgresql://postgres@/incident?host=%2Frun%2Fpostgresql&port=5433",
    "postgresql://app:hunter2@h1:5432,h2:5433,h3/incident?target_session_attrs=read-write&sslmode=verify-full",
    "postgresql://app:hunter2@[::1]:5432/incident",
    "postgresql://app:hunter2@[fe80::1%25eth0]/incident",
    "postgresql://app:hunter2@[::1],[::2]:5433/incident",
    "postgresql://app:100%25sure@db/incident",
    "postgresql://app:%2F%3F%23%5B%5D%40%3A@db/incident",
    "postgresql://app:a:b@db/incident",
    "postgresql://app:with space@db/incident",
    "postgresql://ärger:größe@db/incident",
    "postgresql://db/incident?user=app@tenant&password=a@b",
    "postgresql://db/incident?search_path=flywheel&options=-c%20geqo%3Doff",
    "postgresql://db/incident?host=@abstract",
]

BAD = {
    "empty": "",
    "blank": "  ",
    "no scheme": "app:hunter2@db/incident",
    "other scheme": "mysql://app:hunter2@db/incident",
    "driver in scheme": "postgresql+asyncpg://app:hunter2@db/incident",
    "key and value": "host=db password=hunter2",
    "one slash": "postgresql:/app:hunter2@db/incident",
    "no slash": "postgresql:app:hunter2@db/incident",
    "slash in password": "postgresql://app:hun/ter2@db/incident",
    "slash in password, digits first": "postgresql://app:12/hunter2@db/incident",
    "slash at its start": "postgresql://app:/hunter2@db/incident",
    "question mark in password": "postgresql://app:hun?ter2@db/incident",
    "question mark in password, digits first": "postgresql://app:12?hunter2@db/incident",
    "question mark and equals sign": "postgresql://app:12?a=hunter2@db/incident",
    "at sign": "postgresql://app:hun@ter2@db/incident",
    "at sign and question mark": "postgresql://app:a@b?c=hunter2@db/incident",
    "at sign and slash": "postgresql://app:a@b/hunter2@db/incident",
    "hash in password": "postgresql://app:hun#ter2@db/incident",
    "hash in password, digits first": "postgresql://app:12#hunter2@db/incident",
    "hash elsewhere": "postgresql://app:hunter2@db/incident#1",
    "bracket in password": "postgresql://app:hun[ter2@db/incident",
    "closing bracket in password": "postgresql://app:hun]ter2@db/incident",
    "what looks like a slash": "postgresql://app:hun℀ter2@db/incident",
    "line feed in password": "postgresql://app:hun\nter2@db/incident",
    "tab in password": "postgresql://app:hun\tter2@db/incident",
    "line feed at the end": "postgresql://app:hunter2@db/incident\n",
    "space at the end": "postgresql://app:hunter2@db/incident ",
    "not text": "postgresql://app:hunter2\udcff@db/incident",
    "no at sign": "postgresql://app:hunter2",
    "no at sign, name": "postgresql://app:hunter2/incident",
    "port": "postgresql://app:hunter2@db:port/incident",
    "port too high": "postgresql://app:hunter2@db:70000/incident",
    "port zero": "postgresql://app:hunter2@db:0/incident",
    "second port": "postgresql://app:hunter2@db:5432,db:hunter2/incident",
    "port parameter": "postgresql://app:hunter2@db/incident?port=hunter2",
    "parameter without value": "postgresql://app:hunter2@db/incident?hunter2",
    "parameter without name": "postgresql://app:hunter2@db/incident?=hunter2",
    "ipv6 without brackets": "postgresql://app:hunter2@::1/incident",
    "bracket not closed": "postgresql://app:hunter2@[::1/incident",
}


@pytest.mark.parametrize("url", GOOD)
def test_a_libpq_url_passes(url: str) -> None:
    check_database_url(url)


@pytest.mark.parametrize("url", BAD.values(), ids=BAD.keys())
def test_a_malformed_url_is_refused_in_one_line_that_quotes_nothing(url: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a libpq URL such as ") as caught:
        check_database_url(url)
    message = str(caught.value)
    assert caught.value.__context__ is None
    assert message.isprintable()
    assert "hun" not in message
    assert "ter2" not in message


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=8).filter(
        lambda text: text.strip(":/?#@") == text
    )
)
async def test_no_error_of_connecting_quotes_the_password(password: str) -> None:
    """Either the form is refused, or the driver takes all of it for what it is: it fails for want of a server there."""
    url = f"postgresql://app:{password}@127.0.0.1:1/incident"
    if is_well_formed(url):
        with pytest.raises(ConnectionRefusedError) as caught:
            await asyncpg.connect(url, timeout=5)
        # The error names the server.
        assert password not in str(caught.value).replace("('127.0.0.1', 1)", "")


def is_well_formed(url: str) -> bool:
    try:
        check_database_url(url)
    except ValueError:
        return False
    return True
