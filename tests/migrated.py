"""How the templates of the services' databases are made."""

from servicekit.database.engine import create_engine
from servicekit.database.migrations import Migrations


async def migrate_incident(url: str) -> None:
    """Bring the database at `url` to the incident service's newest revision."""
    await _migrate("incident:migrations", url)


async def _migrate(script_location: str, url: str) -> None:
    engine = create_engine(url, application_name="tests-migrate", pool_size=1, statement_timeout_seconds=0)
    try:
        await Migrations(script_location).upgrade(engine)
    finally:
        await engine.dispose()
