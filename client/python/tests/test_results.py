"""Results in a notebook: dictionaries, frames, tables."""

import datetime
import decimal
import subprocess
import sys

import pandas
import pytest

import isthmus
from isthmus.model.base import ROWS_SHOWN

EVIL = "<script>alert('x')</script>&\"'"


def test_what_a_customer_said_is_escaped_in_every_table(hub, user):
    hub.ingest(
        [
            isthmus.identify(
                user, {EVIL: EVIL, "list": [EVIL]}, identifiers=[isthmus.Identifier("crm", f"{user}{EVIL}")]
            ),
            isthmus.track(EVIL, user_id=user, properties={"x": EVIL}, context={EVIL: EVIL}),
            isthmus.track("Seen", origin=EVIL),
        ]
    )
    profile = hub.profiles.get(f"user_id:{user}")
    assert profile.traits[EVIL] == EVIL
    entries = [entry for entry in hub.quarantine.list() if entry.origin == EVIL]
    tables = [
        profile,
        hub.profiles.timeline(f"user_id:{user}").all(),
        hub.profiles.get_many([f"user_id:{user}"]),
        hub.profiles.explain(f"user_id:{user}"),
        isthmus.Page(entries),
        hub.quarantine.show(entries[0].id),
    ]
    for table in tables:
        html = table._repr_html_()
        assert "<table" in html
        assert "<script" not in html
        assert "alert(" not in html or "&lt;script" in html


def test_a_page_shows_some_rows_and_says_how_many_there_are():
    page = isthmus.Page([isthmus.Identifier("crm", f"value-{n}") for n in range(80)], "more")
    html = page._repr_html_()
    assert (html.count("<tr>"), "80 results; 30 more rows are not shown; there are further pages" in html) == (
        ROWS_SHOWN + 1,
        True,
    )
    assert "value-49" in html
    assert "value-50" not in html
    assert (len(page), page[-1].value, page[:2], page[79]) == (80, "value-79", [page[0], page[1]], page[-1])
    assert repr(page).startswith("<80 results, and more behind: Identifier(namespace='crm'")


def test_dictionaries_hold_pythons_own_values(hub, user):
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    hub.ingest([isthmus.track("Order Completed", user_id=user, properties={"revenue": "1.50"}, timestamp=at)])
    (row,) = hub.profiles.get_many([f"user_id:{user}"]).to_dicts()
    assert row["identifiers"] == [{"namespace": "user_id", "value": user}]
    assert (row["revenue"], row["first_seen"]) == (decimal.Decimal("1.50"), at)


def test_a_frame_keeps_every_value_exactly(hub, user):
    big = 9_007_199_254_740_993
    at = datetime.datetime(2026, 1, 1, 0, 0, 0, 123_456, tzinfo=datetime.timezone.utc)
    hub.ingest(
        [
            isthmus.identify(f"{user}-a", {"n": big, "u": 2**64 - 1, "x": 0.1, "mixed": 1, "yes": True}, timestamp=at),
            isthmus.identify(f"{user}-b", {"plan": "pro", "mixed": "one"}),
        ]
    )
    keys = [f"user_id:{user}-a", f"user_id:{user}-b", f"user_id:{user}-nobody"]
    frame = hub.profiles.get_many(keys).to_pandas()
    assert frame.shape[0] == 3
    types = {name: str(frame[f"traits.{name}"].dtype) for name in ("n", "u", "x", "mixed", "yes")}
    assert types == {"n": "Int64", "u": "UInt64", "x": "float64", "mixed": "object", "yes": "boolean"}
    assert (frame["traits.n"][0], frame["traits.u"][0], frame["traits.x"][0]) == (big, 2**64 - 1, 0.1)
    assert frame["traits.mixed"].tolist() == [1, "one", None]
    assert frame["traits.n"].isna().tolist() == [False, True, True]
    assert str(frame["first_seen"].dtype) == "datetime64[us, UTC]"
    assert frame["first_seen"][0] == pandas.Timestamp(at)
    assert frame["profile_id"].notna().tolist() == [True, True, False]
    assert isthmus.Page([]).to_pandas().shape == (0, 0)


def test_without_pandas_everything_works_and_frames_say_what_is_missing():
    program = """
import sys
sys.modules["pandas"] = None
import isthmus
page = isthmus.Page([isthmus.Identifier("crm", "1")])
assert page.to_dicts() == [{"namespace": "crm", "value": "1"}] and page._repr_html_()
try:
    page.to_pandas()
except ImportError as error:
    assert "pip install pandas" in str(error), error
else:
    sys.exit("no error")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_batch_shows_its_counts_and_problems(hub, user):
    done = hub.ingest([isthmus.track("Seen", user_id=user), isthmus.track("", user_id=user)])
    assert repr(done) == "<2 items: 1 accepted, 1 quarantined>"
    assert "EVENT_NAME_MISSING" in done._repr_html_()
    assert done.to_pandas()["outcome"].tolist() == ["accepted", "quarantined"]


@pytest.mark.parametrize("text", ["", ":", "a:", ":b", "a", "a: "])
def test_what_is_no_identifier_is_refused(text):
    with pytest.raises(isthmus.UsageError):
        isthmus.Identifier.parse(text)
    assert str(isthmus.Identifier.parse("urn:a:b")) == "urn:a:b"
