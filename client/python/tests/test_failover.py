"""Nodes die: nothing is lost, nothing counts twice, the sender notices nothing but time."""

import asyncio
import threading

import isthmus


def test_a_killed_leader_costs_neither_events_nor_reads(own_cluster, user):
    total, dead = 3_000, None
    with own_cluster.client(deadline=60.0) as hub, hub.writer(batch_items=25, pending_items=100) as writer:
        for n in range(total):
            # The buffer is bounded, so most of what was sent before is in when the node dies, and the rest under way.
            if n in (total // 4, total // 2):
                if dead is not None:
                    own_cluster.launch(dead)
                    own_cluster.healthy()
                dead = own_cluster.busiest()
                own_cluster.kill(dead)
            writer.send(isthmus.track("Seen", user_id=f"{user}-{n % 10}", message_id=f"{user}-{n}"))
        counts = writer.flush()
        assert dead is not None
        assert (counts.accepted + counts.duplicate, counts.quarantined, counts.rejected) == (total, 0, 0)
        profiles = hub.profiles.get_many([f"user_id:{user}-{n}" for n in range(10)])
        assert [profile.event_counts for profile in profiles] == [{"Seen": total // 10}] * 10


def test_calls_go_on_while_a_leader_dies_and_each_read_sees_what_was_acknowledged(own_cluster, user):
    written = threading.Semaphore(0)

    def kill():
        for _ in range(20):
            written.acquire()
        own_cluster.kill(own_cluster.busiest())

    killer = threading.Thread(target=kill)
    killer.start()
    with own_cluster.client(deadline=60.0) as hub:
        number, after = 0, 0
        while after < 20:
            number += 1
            done = hub.ingest([isthmus.track("Seen", user_id=user)])
            assert done[0].stored
            assert hub.profiles.get(f"user_id:{user}").event_counts == {"Seen": number}
            written.release()
            after += not killer.is_alive()
    killer.join()


def test_the_asyncio_writer_stands_a_killed_leader_too(own_cluster, user):
    async def work():
        total = 1_500
        async with isthmus.aio.Client(own_cluster.endpoints, deadline=60.0) as hub:
            async with hub.writer(batch_items=25, pending_items=100) as writer:
                for n in range(total):
                    if n == total // 2:
                        own_cluster.kill(own_cluster.busiest())
                    await writer.send(isthmus.track("Seen", user_id=user, message_id=f"{user}-{n}"))
            assert writer.counts.accepted + writer.counts.duplicate == total
            assert (await hub.profiles.get(f"user_id:{user}")).event_counts == {"Seen": total}

    asyncio.run(work())
