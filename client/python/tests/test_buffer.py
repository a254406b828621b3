"""What a writer holds."""

import isthmus
from isthmus import _wire as wire
from isthmus._buffer import Buffer, Limits, Pending


def pending(size):
    return Pending(wire.IngestItem(), size, isthmus.identify("1"))


def test_what_is_under_way_counts_until_it_is_settled():
    buffer = Buffer(Limits(batch_items=2, batch_bytes=100, pending_items=3, pending_bytes=100, retry_for=1))
    for _ in range(2):
        buffer.put(pending(40))
    assert (buffer.fits(20), buffer.fits(21), buffer.held) == (True, False, 2)
    batch = buffer.take()
    assert (len(batch), buffer.waits, buffer.held, buffer.fits(21)) == (2, False, 2, False)
    buffer.put(pending(1))
    assert not buffer.fits(1), "three are held"
    buffer.settle(batch[0])
    assert (buffer.fits(59), buffer.fits(60)) == (True, False)
    buffer.settle(batch[1])
    assert (buffer.fits(99), buffer.fits(100), buffer.held) == (True, False, 1)


def test_batches_are_bounded_and_one_event_always_goes():
    buffer = Buffer(Limits(batch_items=3, batch_bytes=100, pending_items=100, pending_bytes=10_000, retry_for=1))
    for size in (50, 50, 1, 500, 1, 1, 1, 1):
        buffer.put(pending(size))
    assert [[one.size for one in buffer.take()] for _ in range(4)] == [[50, 50], [1], [500], [1, 1, 1]]
    assert [one.size for one in buffer.rest()] == [1]
