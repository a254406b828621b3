"""What a writer holds."""

import pytest

import isthmus
from isthmus import _wire as wire
from isthmus._buffer import Buffer, Limits, Pending


def pending(size, name=""):
    return Pending(wire.IngestItem(origin=name), size, isthmus.identify("1"))


def filled(sizes, **limits):
    buffer = Buffer(Limits(**{"pending_items": 100, "pending_bytes": 10_000, "retry_for": 1, **limits}))
    for place, size in enumerate(sizes, 1):
        buffer.put(pending(size, str(place)))
    buffer.opened()
    return buffer


def taken(buffer):
    first, items = buffer.take()
    return first, [int(item.origin) for item in items]


def test_what_is_under_way_counts_until_it_is_acknowledged():
    buffer = filled([40, 40], batch_items=2, batch_bytes=100, pending_items=3, pending_bytes=100)
    assert (buffer.fits(20), buffer.fits(21), buffer.held) == (True, False, 2)
    buffer.told(0, 0, 9, 1_000)
    assert (taken(buffer), buffer.held, buffer.fits(21)) == ((1, [1, 2]), 2, False)
    buffer.put(pending(1))
    assert not buffer.fits(1), "three are held"
    assert len(buffer.told(1, 1, 9, 1_000)) == 1
    assert (buffer.fits(59), buffer.fits(60)) == (True, False)
    buffer.told(2, 1, 9, 1_000)
    assert (buffer.fits(99), buffer.fits(100), buffer.held) == (True, False, 1)


def test_messages_are_bounded_and_one_event_always_goes():
    buffer = filled([50, 50, 1, 500, 1, 1, 1, 1], batch_items=3, batch_bytes=100)
    buffer.told(0, 0, 99, 10_000)
    assert [taken(buffer) for _ in range(5)] == [(1, [1, 2]), (3, [3]), (4, [4]), (5, [5, 6, 7]), (8, [8])]
    assert [one.size for one in buffer.rest()] == [50, 50, 1, 500, 1, 1, 1, 1]


def test_events_go_out_as_far_as_credits_go():
    buffer = filled([10] * 8, batch_items=3, batch_bytes=1_000)
    assert not buffer.due(urgent=True), "no credits yet"
    buffer.told(0, 0, 5, 55)
    assert [taken(buffer), taken(buffer)] == [(1, [1, 2, 3]), (4, [4, 5])]
    assert not buffer.due(urgent=True), "five may be on their way"
    buffer.told(2, 2, 9, 65)
    assert taken(buffer) == (6, [6])
    assert not buffer.due(urgent=True), "65 bytes in all"


def test_a_message_waits_for_company_unless_nothing_else_is_under_way_or_somebody_waits():
    buffer = filled([10] * 4, batch_items=3, batch_bytes=1_000)
    buffer.told(0, 0, 99, 1_000)
    assert buffer.due(urgent=False)
    taken(buffer)
    assert (buffer.due(urgent=False), buffer.due(urgent=True)) == (False, True)
    buffer.told(2, 2, 99, 1_000)
    assert not buffer.due(urgent=False)
    buffer.told(3, 1, 99, 1_000)
    assert buffer.due(urgent=False)
    for _ in range(2):
        buffer.put(pending(10, "9"))
    taken(buffer)
    assert not buffer.due(urgent=True), "there is none"


def test_a_stream_that_is_opened_anew_gets_all_that_is_not_acknowledged():
    buffer = filled([1] * 4, batch_items=3, batch_bytes=25)
    buffer.told(0, 0, 9, 9)
    assert taken(buffer) == (1, [1, 2, 3])
    buffer.told(1, 1, 9, 9)
    buffer.opened()
    assert buffer.first_sequence == 2
    assert not buffer.due(urgent=True), "the new one gives its own credits"
    buffer.told(1, 0, 9, 9)
    assert taken(buffer) == (2, [2, 3, 4])
    assert [one.item.origin for one in buffer.told(4, 3, 9, 9)] == ["2", "3", "4"]
    assert buffer.held == 0


@pytest.mark.parametrize("told", [(1, 0), (2, 2), (0, 1)])
def test_what_makes_no_sense_is_not_taken(told):
    buffer = filled([1, 1], batch_items=1, batch_bytes=25)
    buffer.told(0, 0, 9, 9)
    taken(buffer)
    with pytest.raises(isthmus.BadAnswerError):
        buffer.told(*told, 9, 9)
    assert buffer.held == 2
