"""Sends events by Segment's SDK for Python: send.py HOST WRITE_KEY PREFIX USERS gzip|plain

Seven events of each user. Prints one JSON object: how many were sent, and of how many the SDK says that it failed.
"""

import json
import sys

from segment.analytics.client import Client

host, key, prefix, users, mode = sys.argv[1:]
failed = []
client = Client(
    key,
    host=host,
    gzip=mode == "gzip",
    upload_size=100,
    upload_interval=0.1,
    on_error=lambda error, items: failed.extend(items),
)
sent = 0
for n in range(int(users)):
    user = f"{prefix}-{n}"
    client.identify(user, {"email": f"{user}@example.com", "plan": "free"})
    for _ in range(3):
        client.track(user, "Bought", {"revenue": 1.5})
    client.page(user, "shop", "Home", {"path": "/"})
    client.group(user, f"{prefix}-group", {"name": "Group"})
    client.alias(f"{user}-old", user)
    sent += 7
client.flush()
client.shutdown()
print(json.dumps({"sent": sent, "failed": len(failed)}))
