"""The revisions that a service knows, read from file names: the same as alembic's."""

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from servicekit.database.revisions import read_revisions


@pytest.mark.parametrize(("package", "table"), [("incident", "incidents"), ("approval", "approvals")])
def test_the_names_of_the_migrations_are_their_revisions_in_order(package: str, table: str) -> None:
    found = read_revisions(f"{package}:migrations")
    config = Config()
    config.set_main_option("script_location", f"{package}:migrations")
    scripts = ScriptDirectory.from_config(config)
    newest_first = [script.revision for script in scripts.walk_revisions()]
    assert found.all == set(newest_first)
    assert [found.head] == scripts.get_heads() == newest_first[:1]
    assert sorted(found.all, reverse=True) == newest_first
    assert found.own_table == table
