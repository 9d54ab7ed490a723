"""Postmortems: the built-in template, and configured ones: capabilities, sandbox, errors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from incident.effects.model import ResolutionSnapshot
from incident.effects.own_database.postmortem import PostmortemTemplate, PostmortemTemplateError
from incident.model import EventType, ResolutionType
from tests.incident.unit.effects.resolutions import KEY, TOOK, event, resolution

BUILT_IN = PostmortemTemplate()
DOCUMENT = Path(__file__).parents[5] / "docs/postmortems.md"


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def template(folder: Path, text: str) -> PostmortemTemplate:
    path = folder / "mine.md.j2"
    path.write_text(text, encoding="utf-8")
    return PostmortemTemplate(path)


def rendered(folder: Path, text: str, what: ResolutionSnapshot | None = None) -> str:
    return template(folder, text).render(what or resolution(), time_to_resolve=TOOK)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(PostmortemTemplateError) as caught:
        template(folder, text)
    return str(caught.value)


def test_the_built_in_template_renders_every_value() -> None:
    story = resolution(
        [
            event(EventType.PROPOSED, after=minutes(1), actor="ai", summary="RESTART deployment/api -n prod"),
            event(EventType.APPROVED, after=minutes(2), actor="bob"),
            event(EventType.NOTE, after=minutes(3), actor="carol", summary="two\nlines"),
            event(
                EventType.EXECUTION_FAILED, after=minutes(4), actor="service:approval", summary="timed out"
            ),
        ],
        title="disk full\n## on db-1",
        description="/var is at 100 %\nsince noon",
        occurrence_count=3,
    )
    assert BUILT_IN.render(story, time_to_resolve=TOOK) == (
        "# disk full ## on db-1\n"
        "\n"
        "INC-20260507-99ADF2, resolution 2\n"
        "\n"
        "## Summary\n"
        "\n"
        "An approved decision to only observe was executed; nothing was changed.\n"
        "\n"
        "> /var is at 100 %\n"
        "> since noon\n"
        "\n"
        "## Impact\n"
        "\n"
        "Severity HIGH; 3 reports, source alertmanager.\n"
        "\n"
        "## Timeline\n"
        "\n"
        "- 2026-05-07 12:00:00 UTC OPENED by alice: disk full on db-1\n"
        "- 2026-05-07 12:01:00 UTC PROPOSED by ai: RESTART deployment/api -n prod\n"
        "- 2026-05-07 12:02:00 UTC APPROVED by bob\n"
        "- 2026-05-07 12:03:00 UTC NOTE by carol: two lines\n"
        "- 2026-05-07 12:04:00 UTC EXECUTION_FAILED by service:approval: timed out\n"
        "- 2026-05-07 12:07:03 UTC RESOLVED by alice: observed\n"
        "\n"
        "## What was tried\n"
        "\n"
        "- 2026-05-07 12:01:00 UTC PROPOSED by ai: RESTART deployment/api -n prod\n"
        "- 2026-05-07 12:02:00 UTC APPROVED by bob\n"
        "- 2026-05-07 12:04:00 UTC EXECUTION_FAILED by service:approval: timed out\n"
        "\n"
        "## Resolution\n"
        "\n"
        "NO_ACTION by alice, 7 min 3 s after it was reopened.\n"
        "\n"
        "> observed\n"
    )


def test_the_first_resolution_is_after_the_opening() -> None:
    first = resolution(key=replace(KEY, resolution_number=1))
    assert "NO_ACTION by alice, 7 min 3 s after it was opened.\n" in BUILT_IN.render(
        first, time_to_resolve=TOOK
    )


def test_entries_of_the_approval_service_name_who_proposed_and_approved() -> None:
    service = "service:approval"
    story = resolution(
        [
            event(EventType.PROPOSED, actor=service, summary="RESTART", attributes={"proposed_by": "ai"}),
            event(EventType.APPROVED, actor=service, attributes={"approved_by": "bob\n## x"}),
            event(EventType.EXECUTED, actor=service, attributes={"executor": "http"}),
        ]
    )
    lines = BUILT_IN.render(story, time_to_resolve=TOOK).splitlines()
    for line in (
        "- 2026-05-07 12:00:00 UTC PROPOSED by ai (recorded by service:approval): RESTART",
        "- 2026-05-07 12:00:00 UTC APPROVED by bob ## x (recorded by service:approval)",
        "- 2026-05-07 12:00:00 UTC EXECUTED by service:approval",
    ):
        assert lines.count(line) == 2  # in the timeline, and in what was tried


def test_the_built_in_template_omits_missing_values() -> None:
    resolved = event(EventType.RESOLVED, after=timedelta(hours=25, seconds=1))
    bare = resolution(
        source="",
        resolution_type=ResolutionType.HUMAN,
        resolved=resolved,
        events=[event(EventType.OPENED), resolved],
    )
    assert BUILT_IN.render(bare, time_to_resolve=timedelta(hours=25, seconds=1)) == (
        "# disk full on db-1\n"
        "\n"
        "INC-20260507-99ADF2, resolution 2\n"
        "\n"
        "## Summary\n"
        "\n"
        "A person repaired it.\n"
        "\n"
        "## Impact\n"
        "\n"
        "Severity HIGH; 1 report, source not given.\n"
        "\n"
        "## Timeline\n"
        "\n"
        "- 2026-05-07 12:00:00 UTC OPENED by alice\n"
        "- 2026-05-08 13:00:01 UTC RESOLVED by alice\n"
        "\n"
        "## What was tried\n"
        "\n"
        "No action is on record.\n"
        "\n"
        "## Resolution\n"
        "\n"
        "HUMAN by alice, 25 h 0 min 1 s after it was reopened.\n"
    )


@pytest.mark.parametrize("resolution_type", ResolutionType)
def test_every_resolution_type_has_its_sentence(resolution_type: ResolutionType) -> None:
    text = BUILT_IN.render(resolution(resolution_type=resolution_type), time_to_resolve=TOOK)
    assert f"{resolution_type} by alice" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("{{ title }}", "disk full on db-1", id="title"),
        pytest.param(
            "{{ labels.host | default }} {{ fingerprint }}", "db-1 disk-full/db-1", id="labels, fingerprint"
        ),
        pytest.param(
            "{{ approval_id }}: {{ action }}", "APR-20260507-1A2B3C: NO_ACTION: observe first", id="action"
        ),
        pytest.param("{{ open_time | utc }}", "2026-05-07 12:00:00 UTC", id="open_time"),
        pytest.param("{{ resolve_time.isoformat() }}", "2026-05-07T12:07:03+00:00", id="a method of a time"),
        pytest.param("{{ time_to_resolve | duration }}", "7 min 3 s", id="time_to_resolve"),
        pytest.param("{{ note | quote }} by {{ resolved_by }}", "> observed by alice", id="note"),
        pytest.param("{{ tried | length }} of {{ events | length }}", "0 of 2", id="events"),
        pytest.param(
            "{{ events[-1].attributes.action | default }}", "NO_ACTION: observe first", id="an attribute"
        ),
        pytest.param("{{ 'a\nb' | line }}", "a b", id="line"),
        pytest.param("{% if description %}x{% endif %}\n", "", id="a block leaves no line"),
        pytest.param("<b>{{ 'a & b' }}</b>\n", "<b>a & b</b>\n", id="Markdown is not escaped"),
        pytest.param("устранено 💥", "устранено 💥", id="any language"),
    ],
)
def test_a_configured_template_replaces_the_built_in_one(tmp_path: Path, text: str, expected: str) -> None:
    assert rendered(tmp_path, text) == expected


def test_a_template_can_include_files_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "footer.md.j2").write_text("by the team", encoding="utf-8")
    assert rendered(tmp_path, "{% include 'footer.md.j2' %}") == "by the team"


def test_a_template_is_read_once(tmp_path: Path) -> None:
    mine = template(tmp_path, "first")
    (tmp_path / "mine.md.j2").write_text("second", encoding="utf-8")
    assert mine.render(resolution(), time_to_resolve=TOOK) == "first"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        pytest.param("one\n{% if title %}", 2, "Unexpected end of template", id="a block without end"),
        pytest.param("one\ntwo\n{{ titel }}", 3, "'titel' is undefined", id="an unknown name"),
        pytest.param("{{ title | shout }}", 1, "No filter named 'shout'", id="an unknown filter"),
        pytest.param("{{ title | }}", 1, "expected token", id="bad syntax"),
        pytest.param(
            "\n{{ events[0].attributes.nothing }}", 2, "has no attribute 'nothing'", id="an unknown attribute"
        ),
        pytest.param("\n{{ 1 // 0 }}", 2, "zero", id="an error of arithmetic"),
        pytest.param("\n{{ occurrence_count | quote }}", 2, "splitlines", id="a filter on a wrong type"),
        pytest.param("{% include 'nothing.j2' %}", 1, "nothing.j2", id="an include that is not there"),
        pytest.param("{% include '../secret' %}", 1, "../secret", id="an include from elsewhere"),
        pytest.param("{{ ''.__class__.__mro__ }}", 1, "unsafe", id="a way out of the sandbox"),
        pytest.param("\n{% set _ = labels.clear() %}", 2, "unsafe", id="a mutation of a variable"),
        pytest.param("{% for i in range(10**9) %}x{% endfor %}", 1, "Range too big", id="an endless loop"),
    ],
)
def test_a_template_error_is_found_at_start_with_file_and_line(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'mine.md.j2'} line {line}: "), message
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{% if description %}{{ oops }}{% endif %}", id="only with a description"),
        pytest.param("{% if not description %}{{ oops }}{% endif %}", id="only without one"),
        pytest.param("{% for event in tried %}{{ oops }}{% endfor %}", id="only when something was tried"),
        pytest.param(
            "{% for event in tried %}{% else %}{{ oops }}{% endfor %}", id="only when nothing was tried"
        ),
        pytest.param("{% for name in labels %}{{ oops }}{% endfor %}", id="only with labels"),
        pytest.param("{% if action %}{{ oops }}{% endif %}", id="only after an approval"),
    ],
)
def test_a_template_error_in_a_branch_is_found_at_start(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text) == f"{tmp_path / 'mine.md.j2'} line 1: 'oops' is undefined"


def test_a_template_error_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "footer.md.j2").write_text("\n\n{{ oops }}", encoding="utf-8")
    expected = f"{tmp_path / 'footer.md.j2'} line 3: 'oops' is undefined"
    assert refusal(tmp_path, "{% include 'footer.md.j2' %}") == expected


def test_an_unreadable_template_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing.md.j2"
    with pytest.raises(PostmortemTemplateError, match=r"missing\.md\.j2: cannot be read: TemplateNotFound"):
        PostmortemTemplate(missing)
    binary = tmp_path / "binary.md.j2"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(PostmortemTemplateError, match=r"binary\.md\.j2: cannot be read: UnicodeDecodeError"):
        PostmortemTemplate(binary)


def test_a_template_that_fails_on_one_incident_names_file_and_line(tmp_path: Path) -> None:
    mine = template(tmp_path, "\n{% if title != 'sample' %}{{ labels.team | upper ~ 1 // 0 }}{% endif %}")
    with pytest.raises(PostmortemTemplateError) as caught:
        mine.render(resolution(), time_to_resolve=TOOK)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.md.j2'} line 2: ")


def test_every_documented_variable_exists(tmp_path: Path) -> None:
    rows = [
        line.split("|")[1]
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    names = [name.strip(" `") for row in rows for name in row.split(",")]
    assert len(names) > 15
    rendered(tmp_path, "".join(f"{{{{ {name} }}}}" for name in [*names, "how"]))


REPAIR = {"approval_id": "APR-20260507-0000A1"}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        pytest.param(
            [(EventType.RECOVERED, REPAIR)],
            "An approved operation was executed, and the alert was gone after it.",
            id="verified",
        ),
        pytest.param(
            [],
            "An approved operation was executed and worked. Nothing verified that it helped.",
            id="not verified",
        ),
        pytest.param(
            [
                (EventType.RECOVERED, {"approval_id": "APR-20260507-0000A2"}),
                (EventType.NOT_RECOVERED, REPAIR),
            ],
            "An approved operation was executed and worked. Nothing verified that it helped.",
            id="another one was verified",
        ),
    ],
)
def test_a_repair_is_said_to_have_helped_when_that_was_verified(
    found: Sequence[tuple[EventType, Mapping[str, str]]], sentence: str
) -> None:
    resolved = replace(event(EventType.RESOLVED, after=minutes(9)), attributes=REPAIR)
    events = [
        event(EventType.OPENED),
        *(
            replace(event(kind, after=minutes(8), summary="what was found"), attributes=attributes)
            for kind, attributes in found
        ),
        resolved,
    ]
    repaired = resolution(resolution_type=ResolutionType.AUTO_REPAIRED, resolved=resolved, events=events)

    markdown = BUILT_IN.render(repaired, time_to_resolve=minutes(9))

    assert f"## Summary\n\n{sentence}\n" in markdown
    tried = markdown.partition("## What was tried")[2]
    assert tried.count("what was found") == len(found)
