"""Values: what is sent is what is read."""

import datetime
import decimal
import random
import uuid

import numpy
import pandas
import pytest

import isthmus
from isthmus import _wire as wire
from isthmus._values import DEPTH_MAX, from_wire, to_wire

UTC = datetime.timezone.utc
EXACT = {
    "least": -(2**63),
    "most": 2**63 - 1,
    "unsigned": 2**64 - 1,
    "past_double": 9_007_199_254_740_993,
    "tenth": 0.1,
    "tiny": 5e-324,
    "yes": True,
    "text": "Zoë \u2028 \U0001f600",
    "empty": "",
    "list": [1, "a", None, [True, {"b": 1.5}]],
    "map": {"inner": {"deep": [2**60]}},
}


def test_every_value_reaches_the_profile_as_it_was_sent(hub, user):
    hub.ingest([isthmus.identify(user, EXACT)])
    traits = hub.profiles.get(f"user_id:{user}").traits
    assert traits == EXACT
    assert [type(value) for value in traits.values()] == [type(EXACT[name]) for name in traits]
    assert hub.profiles.timeline(f"user_id:{user}").all()[0].properties == EXACT


def test_a_dict_and_a_typed_event_say_the_same(hub, user):
    hub.ingest(
        [
            isthmus.identify(f"{user}-a", EXACT),
            {"type": "identify", "userId": f"{user}-b", "traits": EXACT},
        ]
    )
    one, other = hub.profiles.get_many([f"user_id:{user}-a", f"user_id:{user}-b"])
    assert one.traits == other.traits == EXACT


def test_times_and_decimals_keep_every_digit(hub, user):
    zone = datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))
    at = datetime.datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=zone)
    amount = decimal.Decimal("12345678901234567.89")
    properties = {"revenue": amount, "at": at, "day": datetime.date(2026, 1, 31)}
    typed = isthmus.track("Order Completed", user_id=user, properties=properties, timestamp=at)
    same = {"type": "track", "event": "Order Completed", "userId": user, "properties": properties, "timestamp": at}
    assert hub.ingest([typed, same]).counts.accepted == 2
    profile = hub.profiles.get(f"user_id:{user}")
    assert profile.revenue == 2 * amount
    assert profile.revenue_by_currency == {"USD": 2 * amount}
    assert profile.first_seen == profile.last_seen == at
    for event in hub.profiles.timeline(f"user_id:{user}"):
        assert event.timestamp == at
        assert event.properties == {
            "revenue": "12345678901234567.89",
            "at": "2026-01-01T03:29:59.999999Z",
            "day": "2026-01-31",
        }


def test_what_the_wire_says_is_read_back():
    numbers = random.Random(7)

    def some(depth):
        made = [
            lambda: None,
            lambda: numbers.random() < 0.5,
            lambda: numbers.randrange(-(2**63), 2**64),
            lambda: numbers.uniform(-1e300, 1e300),
            lambda: "".join(chr(numbers.randrange(1, 0xD7FF)) for _ in range(5)),
            lambda: datetime.datetime.fromtimestamp(numbers.randrange(0, 2**33), UTC),
            lambda: [some(depth + 1) for _ in range(3)],
            lambda: {str(index): some(depth + 1) for index in range(3)},
        ]
        return numbers.choice(made if depth < 4 else made[:6])()

    for _ in range(500):
        value = some(0)
        message = wire.Value.FromString(to_wire(value).SerializeToString())
        assert from_wire(message) == value


def test_values_of_other_libraries_are_pythons():
    id = uuid.uuid4()
    pairs = [
        (numpy.int64(2**62 + 1), 2**62 + 1),
        (numpy.uint64(2**64 - 1), 2**64 - 1),
        (numpy.float64(0.1), 0.1),
        (numpy.bool_(True), True),
        (numpy.str_("a"), "a"),
        (numpy.array(5), 5),
        (pandas.Timestamp("2026-01-01T00:00:00Z"), datetime.datetime(2026, 1, 1, tzinfo=UTC)),
        (id, str(id)),
        ((1, 2), [1, 2]),
    ]
    for given, expected in pairs:
        assert from_wire(to_wire(given)) == expected


@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**63) - 1,
        datetime.datetime(2026, 1, 1),
        decimal.Decimal("NaN"),
        b"bytes",
        object(),
        {1: 2},
        "\ud800",
        pandas.NaT,
        [[]] * 1 + [{"a": {"b": object()}}],
    ],
)
def test_what_the_hub_has_no_value_for_is_refused_before_it_is_sent(value):
    with pytest.raises(isthmus.UsageError):
        to_wire(value)


def test_nesting_is_refused_where_the_hub_would_refuse_the_whole_batch(hub, user):
    def nested(levels):
        value = 1
        for _ in range(levels):
            value = {"a": value}
        return value

    batch = [isthmus.identify(user, {"deep": nested(levels)}) for levels in (30, DEPTH_MAX)]
    assert [(result.outcome, result.reason) for result in hub.ingest(batch)] == [
        ("accepted", None),
        ("quarantined", "TOO_DEEP"),
    ]
    assert hub.profiles.get(f"user_id:{user}").traits["deep"] == nested(30)
    with pytest.raises(isthmus.UsageError, match="nested deeper"):
        hub.ingest([isthmus.identify(user, {"deep": nested(DEPTH_MAX + 1)})])


def test_a_time_that_datetime_cannot_hold_is_text():
    def read(seconds):
        return from_wire(wire.Value(timestamp_value=wire.Timestamp(seconds=seconds, nanos=500_000_000)))

    assert read(-62_135_596_801) == "0000-12-31T23:59:59.5Z"
    assert read(-377_705_116_800) == "-9999-01-01T00:00:00.5Z"
    assert read(0) == datetime.datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert read(-1) == datetime.datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)
