"""The short form of `python -m chaos.alerts`: alerts while the intake and the incident service are killed."""

from pathlib import Path

import pytest

from chaos.alerts import run


@pytest.mark.slow
async def test_no_alert_is_lost_or_doubled_while_the_services_are_killed(tmp_path: Path) -> None:
    outcome = await run(tmp_path / "data", alerts=100, seed=7, pause=(0.1, 0.5), max_kills=3)
    assert outcome.problems == []
    # A fifth of them fired twice.
    assert outcome.incidents == 120
    assert outcome.kills.keys() == {"intake", "incident"}
    assert outcome.repeated_posts > 0
