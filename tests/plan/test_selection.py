"""Which resources a selection takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.plan.model.selection import (
    Condition,
    Operator,
    ResourceClass,
    Selection,
    TagTerm,
    is_type_pattern,
    selects,
)

PII = TagTerm("dataType", "PII")


def a_tree(**tags: str) -> ResourceClass:
    return ResourceClass(type="EFS", region="eu-north-1", tags=tags)


@pytest.mark.parametrize(
    ("selection", "resource", "selected"),
    [
        (Selection(tags=(PII,)), a_tree(dataType="PII"), True),
        (Selection(tags=(PII,)), a_tree(dataType="pii"), False),
        (Selection(tags=(PII,)), a_tree(datatype="PII"), False),
        (Selection(tags=(PII,)), a_tree(), False),
        (Selection(tags=(PII, TagTerm("dataType", "RED"))), a_tree(dataType="RED"), True),
        (Selection(resources=("*",)), a_tree(), True),
        (Selection(), a_tree(), True),
        (Selection(not_resources=("arn:aws:rds:*:*:db:*",)), a_tree(), True),
        (Selection(not_resources=("arn:aws:elasticfilesystem:*:*:file-system/*",)), a_tree(), False),
        (Selection(resources=("arn:aws:elasticfilesystem:*:*:file-system/*",)), a_tree(), True),
        (Selection(resources=("arn:aws:elasticfilesystem:*",)), a_tree(), True),
        (Selection(resources=("arn:aws-cn:elasticfilesystem:*",)), a_tree(), False),
        (Selection(resources=("arn:aws:ec2:*:*:volume/*",)), a_tree(), False),
        (Selection(resources=("arn:aws:ec2:*:*:instance/*",)), a_tree(), False),
        (Selection(resources=("*",), not_resources=("arn:aws:elasticfilesystem:*:*:file-system/*",)), a_tree(), False),
        (Selection(resources=("arn:aws:ec2:*:*:volume/*",), tags=(PII,)), a_tree(dataType="PII"), True),
        (Selection(conditions=(Condition(Operator.EQUALS, "aws:ResourceTag/a", "1"),)), a_tree(a="1"), True),
    ],
    ids=[
        "tag with the value",
        "value in other case",
        "key in other case",
        "no tag",
        "any of two values",
        "everything",
        "nothing asked for, so everything",
        "everything but another type",
        "everything but its type",
        "its type",
        "its service",
        "its service in another partition",
        "another type",
        "a type not known here",
        "excluded by type",
        "tags or types",
        "conditions alone",
    ],
)
def test_a_selection_takes_what_it_says(selection: Selection, resource: ResourceClass, selected: bool) -> None:
    assert selects(selection, resource).selected is selected


@pytest.mark.parametrize(
    ("condition", "tags", "holds"),
    [
        (Condition(Operator.EQUALS, "aws:ResourceTag/stage", "prod"), {"stage": "prod"}, True),
        (Condition(Operator.EQUALS, "aws:ResourceTag/stage", "prod"), {}, False),
        (Condition(Operator.NOT_EQUALS, "aws:ResourceTag/stage", "test"), {}, True),
        (Condition(Operator.NOT_EQUALS, "aws:ResourceTag/stage", "test"), {"stage": "test"}, False),
        (Condition(Operator.LIKE, "aws:ResourceTag/stage", "pr*d"), {"stage": "prod"}, True),
        (Condition(Operator.LIKE, "aws:ResourceTag/stage", "prod*"), {"stage": "prod server"}, False),
        (Condition(Operator.LIKE, "aws:ResourceTag/stage", "prod.*"), {"stage": "prodx"}, False),
        (Condition(Operator.NOT_LIKE, "aws:ResourceTag/stage", "te*"), {}, True),
        (Condition(Operator.NOT_LIKE, "aws:ResourceTag/stage", "te*"), {"stage": "test"}, False),
    ],
)
def test_every_condition_must_hold(condition: Condition, tags: dict[str, str], holds: bool) -> None:
    verdict = selects(Selection(resources=("*",), conditions=(condition,)), a_tree(**tags))
    assert verdict.selected is holds
    if not holds:
        assert condition.key in verdict.clause


def test_a_pattern_for_single_resources_needs_the_arn() -> None:
    selection = Selection(resources=("arn:aws:elasticfilesystem:eu-north-1:111122223333:file-system/fs-1*",))
    assert selection.named_resources == list(selection.resources)
    assert not selects(selection, a_tree()).selected
    assert selects(selection, a_tree(), "arn:aws:elasticfilesystem:eu-north-1:111122223333:file-system/fs-12").selected
    assert not selects(
        selection, a_tree(), "arn:aws:elasticfilesystem:eu-north-1:111122223333:file-system/fs-2"
    ).selected


@pytest.mark.parametrize(
    "pattern", ["*", "arn:aws:s3:::*", "arn:aws:rds:*:*:db:*", "arn:aws:fsx:*:*:volume/*", "arn:aws:ec2:*"]
)
def test_patterns_that_mean_whole_types(pattern: str) -> None:
    assert is_type_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "kind", "arn", "regardless"),
    [
        ("*", "EFS", "arn:aws:elasticfilesystem:eu-north-1:111122223333:file-system/fs-1", False),
        (
            "arn:aws:elasticfilesystem:*",
            "EFS",
            "arn:aws:elasticfilesystem:eu-north-1:111122223333:file-system/a",
            False,
        ),
        ("arn:aws:ec2:*:*:*", "EBS", "arn:aws:ec2:eu-north-1:111122223333:volume/vol-1", False),
        ("arn:aws:ec2:*:*:volume/*", "EBS", "arn:aws:ec2:eu-north-1:111122223333:volume/vol-1", True),
        ("arn:aws:ec2:*:*:vol*", "EBS", "arn:aws:ec2:eu-north-1:111122223333:volume/vol-1", False),
        ("arn:aws:rds:eu-north-1:111122223333:db:a", "RDS", "arn:aws:rds:eu-north-1:111122223333:db:a", True),
        ("arn:aws:rds:eu-north-1:111122223333:db:a*", "RDS", "arn:aws:rds:eu-north-1:111122223333:db:ab", True),
        ("arn:aws:s3:*", "S3", "arn:aws:s3:::bucket", False),
        ("arn:aws:s3:::*", "S3", "arn:aws:s3:::bucket", True),
    ],
)
def test_what_is_named_by_arn_or_type_is_taken_although_its_type_is_switched_off(
    pattern: str, kind: str, arn: str, *, regardless: bool
) -> None:
    """AWS Backup Developer Guide, "Service opt-in"."""
    tagged = ResourceClass(kind, "eu-north-1", {"dataType": "PII"})
    verdict = selects(Selection(resources=("*", pattern)), tagged, arn)
    assert verdict.selected
    assert verdict.regardless is regardless
    assert verdict.clause == ("Resources " + (pattern if regardless else "*"))
    by_tag = selects(Selection(resources=("arn:aws:fsx:*",), tags=(PII,)), tagged, arn)
    assert (by_tag.selected, by_tag.regardless) == (True, False)


_ARNS = {
    "EFS": "arn:aws:elasticfilesystem:eu-north-1:111122223333:file-system/x",
    "EBS": "arn:aws:ec2:eu-north-1:111122223333:volume/x",
    "RDS": "arn:aws:rds:eu-north-1:111122223333:db:x",
    "S3": "arn:aws:s3:::x",
}


@given(
    kind=st.sampled_from(sorted(_ARNS)),
    service=st.sampled_from(["elasticfilesystem", "ec2", "rds", "s3", "*", "fsx"]),
    where=st.sampled_from(["*", "*:*:*", "::*", "*:*:volume/*", "*:*:file-system/*", "*:*:db:*", "*:*:x*", "*:1:*"]),
)
def test_what_a_pattern_of_types_means_does_not_depend_on_the_arn(kind: str, service: str, where: str) -> None:
    pattern = f"arn:aws:{service}:{where}"
    if not is_type_pattern(pattern):
        return
    resource = ResourceClass(kind, "eu-north-1", {})
    assert selects(Selection(resources=(pattern,)), resource) == selects(
        Selection(resources=(pattern,)), resource, _ARNS[kind]
    )


_TEXT = st.text(alphabet="ab*", max_size=3)
TAGS = st.dictionaries(_TEXT, _TEXT, max_size=3)
SELECTIONS = st.builds(
    Selection,
    resources=st.lists(st.sampled_from(["*", "arn:aws:s3:::*", "arn:aws:s3:::bucket"]), max_size=2).map(tuple),
    not_resources=st.lists(st.sampled_from(["arn:aws:rds:*:*:db:*", "arn:aws:s3:::x*"]), max_size=1).map(tuple),
    tags=st.lists(st.builds(TagTerm, _TEXT, _TEXT), max_size=2).map(tuple),
    conditions=st.lists(st.builds(Condition, st.sampled_from(Operator), _TEXT, _TEXT), max_size=2).map(tuple),
)


@given(selection=SELECTIONS)
def test_a_selection_reads_back_with_the_same_hash(selection: Selection) -> None:
    again = Selection.from_json(selection.to_json())
    assert again == selection
    assert again.hash == selection.hash


@given(selection=SELECTIONS, tags=TAGS, kind=st.sampled_from(["EFS", "RDS", "S3"]))
def test_excluding_more_never_takes_more(selection: Selection, tags: dict[str, str], kind: str) -> None:
    resource = ResourceClass(kind, "eu-north-1", tags)
    stricter = Selection(
        selection.resources, (*selection.not_resources, "arn:aws:s3:::*"), selection.tags, selection.conditions
    )
    if selects(stricter, resource).selected:
        assert selects(selection, resource).selected
