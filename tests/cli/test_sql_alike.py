"""Statements of sql/ that say the same thing in a part say it in the same words: whoever changes one of
them changes the others."""

import re

import pytest

from lib.program import REPOSITORY

PART = re.compile(r"(?:^WITH |^\), )(\w+) AS (?:MATERIALIZED )?\((.*?)(?=^\))", re.DOTALL | re.MULTILINE)
FREE_ROW = re.compile(r"CASE WHEN q\.xmax = 0.*?\bEND\b", re.DOTALL)


def text_of(statement):
    lines = (REPOSITORY / "sql" / f"{statement}.sql").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))


def words(text):
    return " ".join(text.split())


def parts(statement):
    """Its common table expressions by name."""
    return {name: words(text) for name, text in PART.findall(text_of(statement))}


@pytest.mark.parametrize("one, other, names, renamed", [
    ("settle_row", "resolve", ("held", "delays", "retried"), {}),
    ("settle_lease", "resolve", ("logged", "counts"), {}),
    ("claim_ids", "claim_row", ("logged", "counts"), {"$4": "$6"}),
])
def test_parts_are_alike(one, other, names, renamed):
    ours, theirs = parts(one), parts(other)
    for name in names:
        text = ours[name]
        for here, there in renamed.items():
            text = text.replace(here, there)
        assert text == theirs[name], name


@pytest.mark.parametrize("statement", ["claim_lease_front", "claim_lease_late"])
def test_claims_behind_cursors_are_alike(statement):
    """In what they return, and in what is above the cursors."""
    part = re.compile(r"CASE WHEN coalesce\(octet_length.*?(?=SELECT behind\.\*)")
    assert part.search(words(text_of(statement)))[0] == part.search(words(text_of("claim_lease_after")))[0]


def test_leases_leave_out_what_is_locked_by_one_rule():
    found = {statement: [words(rule) for rule in FREE_ROW.findall(text_of(statement))]
             for statement in ("claim_lease", "claim_lease_after", "claim_lease_front", "claim_lease_late",
                               "claim_lease_many", "claim_lease_many_after")}
    assert {statement: len(rules) for statement, rules in found.items()} == {
        "claim_lease": 1, "claim_lease_after": 1, "claim_lease_front": 1, "claim_lease_late": 2,
        "claim_lease_many": 3, "claim_lease_many_after": 4}
    texts = {rule.replace(" OR $6", "") for rules in found.values() for rule in rules}
    assert len(texts) == 1, "and only what looks at everything may be told to try every row"
