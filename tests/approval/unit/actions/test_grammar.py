"""The grammar of actions, from both sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.actions.grammar import ActionSyntaxError, format_operation, parse_action
from approval.model import Operation, OperationKind

_LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
_OBJECT = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", fullmatch=True)
_WORKLOAD = st.sampled_from(["deployment", "statefulset", "daemonset"])


def _repairs(kind: OperationKind, resource_kinds: st.SearchStrategy[str]) -> st.SearchStrategy[Operation]:
    return st.builds(Operation, st.just(kind), resource_kind=resource_kinds, name=_OBJECT, namespace=_LABEL)


OPERATIONS = st.one_of(
    st.just(Operation(OperationKind.NO_ACTION)),
    _repairs(OperationKind.RESTART, _WORKLOAD),
    _repairs(OperationKind.ROLLBACK, _WORKLOAD),
    _repairs(OperationKind.DELETE, st.just("pod")),
    st.builds(
        Operation,
        st.just(OperationKind.SCALE),
        resource_kind=st.sampled_from(["deployment", "statefulset"]),
        name=_OBJECT,
        namespace=_LABEL,
        replicas=st.integers(0, 10_000),
    ),
    st.builds(Operation, st.just(OperationKind.HTTP), hook=_LABEL),
)

# Pieces that put together are often nearly an action: where a parser trips.
_PIECES = st.sampled_from(
    [
        *("NO_ACTION", "RESTART", "SCALE", "DELETE", "ROLLBACK", "HTTP", "POST", "restart", "no_action"),
        *(
            "deployment/api",
            "pod/x",
            "daemonset/",
            "/api",
            "deployment",
            "a/b/c",
            "-n",
            "-n=",
            "--namespace=prod",
        ),
        *(
            "--namespace",
            "--replicas",
            "--replicas=3",
            "--replicas=",
            "--replicas=-1",
            "prod",
            ":",
            "=",
            "/",
            '"',
        ),
        *(" ", "  ", "\t", "\n", "\u00a0", "\u2003", "\x1c", "\x00", "İ", "ß", "ﬁ", "\U0001f525"),
    ]
)

PARSED = {
    "no_action": ("NO_ACTION", Operation(OperationKind.NO_ACTION)),
    "no_action_with_text": ("NO_ACTION: observe first", Operation(OperationKind.NO_ACTION)),
    "no_action_with_empty_text": ("NO_ACTION:", Operation(OperationKind.NO_ACTION)),
    "no_action_in_lower_case": ("no_action: wait", Operation(OperationKind.NO_ACTION)),
    "no_action_in_mixed_case": ("No_Action", Operation(OperationKind.NO_ACTION)),
    "no_action_between_spaces": ("  NO_ACTION  ", Operation(OperationKind.NO_ACTION)),
    "no_action_before_a_no_break_space": ("NO_ACTION\xa0", Operation(OperationKind.NO_ACTION)),
    "no_action_between_no_break_spaces": ("\xa0no_action\u2003: wait", Operation(OperationKind.NO_ACTION)),
    "no_action_with_more_lines": ("NO_ACTION: one\ntwo: three", Operation(OperationKind.NO_ACTION)),
    "no_action_whose_text_is_an_action": (
        "NO_ACTION: RESTART deployment/api -n prod",
        Operation(OperationKind.NO_ACTION),
    ),
    "restart": (
        "RESTART deployment/api -n prod",
        Operation(OperationKind.RESTART, "deployment", "api", "prod"),
    ),
    "restart_in_lower_case": (
        "restart Deployment/api -n prod",
        Operation(OperationKind.RESTART, "deployment", "api", "prod"),
    ),
    "long_flag": (
        "RESTART statefulset/db --namespace prod",
        Operation(OperationKind.RESTART, "statefulset", "db", "prod"),
    ),
    "flag_with_equals": (
        "RESTART daemonset/log --namespace=prod",
        Operation(OperationKind.RESTART, "daemonset", "log", "prod"),
    ),
    "short_flag_with_equals": (
        "RESTART deployment/api -n=prod",
        Operation(OperationKind.RESTART, "deployment", "api", "prod"),
    ),
    "scale": (
        "SCALE deployment/api --replicas=3 -n prod",
        Operation(OperationKind.SCALE, "deployment", "api", "prod", replicas=3),
    ),
    "scale_the_other_way_round": (
        "SCALE deployment/api -n prod --replicas 0",
        Operation(OperationKind.SCALE, "deployment", "api", "prod", replicas=0),
    ),
    "delete": ("DELETE pod/x -n prod", Operation(OperationKind.DELETE, "pod", "x", "prod")),
    "dots_in_a_name": (
        "DELETE pod/api.v1.x -n prod",
        Operation(OperationKind.DELETE, "pod", "api.v1.x", "prod"),
    ),
    "rollback": (
        "ROLLBACK deployment/api -n prod",
        Operation(OperationKind.ROLLBACK, "deployment", "api", "prod"),
    ),
    "http": ("HTTP POST hook-name", Operation(OperationKind.HTTP, hook="hook-name")),
    "http_in_lower_case": ("http post hook-name", Operation(OperationKind.HTTP, hook="hook-name")),
    "many_spaces": (
        "\tRESTART   deployment/api\n-n   prod ",
        Operation(OperationKind.RESTART, "deployment", "api", "prod"),
    ),
    "named_like_no_action": (
        "RESTART deployment/no-action -n prod",
        Operation(OperationKind.RESTART, "deployment", "no-action", "prod"),
    ),
}

# (action, where the error is, a piece of the reason)
REFUSED = {
    "empty": ("", 0, "expected an action"),
    "blank": ("  ", 0, "expected an action"),
    "words": ("please have a look", 0, "expected NO_ACTION, RESTART"),
    "words_after_spaces": ("  please", 2, "expected NO_ACTION, RESTART"),
    "no_action_and_more": ("NO_ACTION observe", 10, "expected ':'"),
    "verb_alone": ("RESTART", 7, "expected an object"),
    "kind_without_name": ("RESTART deployment -n prod", 8, "deployment or statefulset or daemonset"),
    "unknown_kind": ("RESTART node/a -n prod", 8, "deployment or statefulset or daemonset"),
    "kind_of_another_verb": ("DELETE deployment/api -n prod", 7, "DELETE expects pod"),
    "daemonsets_do_not_scale": ("SCALE daemonset/a --replicas=1 -n prod", 6, "deployment or statefulset"),
    "empty_name": ("RESTART deployment/ -n prod", 19, "not the name"),
    "name_in_upper_case": ("RESTART deployment/API -n prod", 19, "not the name"),
    "name_with_a_slash": ("RESTART deployment/a/b -n prod", 19, "not the name"),
    "name_too_long": (f"RESTART deployment/{'a' * 254} -n prod", 19, "not the name"),
    "no_namespace": ("RESTART deployment/api", 22, "expected a namespace"),
    "namespace_without_value": ("RESTART deployment/api -n", 25, "expected a value after -n"),
    "namespace_with_empty_value": ("RESTART deployment/api -n=", 26, "name of a namespace"),
    "namespace_in_upper_case": ("RESTART deployment/api -n Prod", 26, "name of a namespace"),
    "namespace_with_a_dot": ("RESTART deployment/api -n a.b", 26, "name of a namespace"),
    "namespace_too_long": (f"RESTART deployment/api -n {'a' * 64}", 26, "name of a namespace"),
    "namespace_twice": ("RESTART deployment/api -n a --namespace=b", 28, "given twice"),
    "unknown_flag": ("RESTART deployment/api -n prod --force", 31, "expected -n or --namespace"),
    "replicas_where_none_belong": ("RESTART deployment/api -n prod --replicas=1", 31, "expected -n"),
    "no_replicas": ("SCALE deployment/api -n prod", 28, "expected the number of replicas"),
    "negative_replicas": ("SCALE deployment/api --replicas=-1 -n prod", 32, "number of replicas"),
    "too_many_replicas": ("SCALE deployment/api --replicas=10001 -n prod", 32, "number of replicas"),
    "replicas_in_words": ("SCALE deployment/api --replicas=three -n prod", 32, "number of replicas"),
    "replicas_in_other_digits": ("SCALE deployment/api --replicas=٣ -n prod", 32, "number of replicas"),
    "http_alone": ("HTTP", 4, "expected POST"),
    "http_get": ("HTTP GET hook", 5, "expected POST"),
    "http_without_hook": ("HTTP POST", 9, "name of a hook"),
    "http_with_an_address": ("HTTP POST https://example.com/", 10, "not the name of a hook"),
    "http_and_more": ("HTTP POST hook now", 15, "expected the end"),
}

# Texts with NO_ACTION in them that are no NO_ACTION.
NOT_NO_ACTION = {
    "inside_a_longer_word": "NO_ACTIONS",
    "behind_other_letters": "XNO_ACTION",
    "after_other_words": "please NO_ACTION",
    "as_the_name_of_an_object": "RESTART deployment/NO_ACTION -n prod",
    "as_the_name_of_a_hook": "HTTP POST NO_ACTION",
    "as_a_quoted_argument": 'RESTART deployment/api -n "NO_ACTION: observe"',
    "quoted": '"NO_ACTION: observe"',
    "behind_a_flag": "RESTART deployment/api -n NO_ACTION",
    "with_a_dash": "NO-ACTION",
    "with_a_space": "NO ACTION",
    "without_the_colon": "NO_ACTION observe first",
}

# Letters that fold to an ASCII letter without being one.
LOOKALIKES = {
    "dotless_i": "NO_ACT\u0131ON",
    "dotted_capital_i": "NO_ACT\u0130ON",
    "long_s_in_the_verb": "RE\u017fTART deployment/api -n prod",
    "long_s_in_the_method": "HTTP PO\u017fT hook",
}


@pytest.mark.parametrize(("text", "operation"), PARSED.values(), ids=PARSED)
def test_an_action_is_parsed_as_its_operation(text: str, operation: Operation) -> None:
    assert parse_action(text) == operation


@pytest.mark.parametrize(("text", "position", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_syntax_error_has_its_position_and_reason(text: str, position: int, reason: str) -> None:
    with pytest.raises(ActionSyntaxError) as caught:
        parse_action(text)
    assert (caught.value.position, reason in caught.value.reason) == (position, True), caught.value
    assert str(caught.value) == f"at character {position + 1}: {caught.value.reason}"


@pytest.mark.parametrize("text", NOT_NO_ACTION.values(), ids=NOT_NO_ACTION)
def test_no_action_is_recognised_only_as_the_whole_action(text: str) -> None:
    with pytest.raises(ActionSyntaxError):
        parse_action(text)


@pytest.mark.parametrize("text", LOOKALIKES.values(), ids=LOOKALIKES)
def test_a_homoglyph_is_not_the_letter_that_it_resembles(text: str) -> None:
    with pytest.raises(ActionSyntaxError):
        parse_action(text)


@given(OPERATIONS)
def test_an_operation_round_trips_through_its_text(operation: Operation) -> None:
    assert parse_action(format_operation(operation)) == operation


@given(st.text() | st.lists(_PIECES).map("".join) | st.lists(_PIECES).map(" ".join))
def test_every_text_is_parsed_or_has_an_error_position_within_it(text: str) -> None:
    outcome = _outcome(text)
    if isinstance(outcome, ActionSyntaxError):
        assert 0 <= outcome.position <= len(text)
        assert outcome.reason
    else:
        assert parse_action(format_operation(outcome)) == outcome


def _outcome(text: str) -> Operation | ActionSyntaxError:
    try:
        return parse_action(text)
    except ActionSyntaxError as exc:
        return exc


@given(OPERATIONS, st.sampled_from([str.upper, str.lower, str.title]))
def test_verbs_are_case_insensitive(operation: Operation, written: object) -> None:
    verb, space, rest = format_operation(operation).partition(" ")
    assert callable(written)
    assert parse_action(f"{written(verb)}{space}{rest}") == operation
