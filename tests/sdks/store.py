"""An object store with the interface of Amazon S3, by moto, as it is published, and a look into it by pyarrow.

store.py serve BUCKET          serves an empty bucket, and prints a line of JSON with its port; ends when it is killed
store.py look PORT FOLDER      prints a line of JSON: the objects below BUCKET/FOLDER, and the rows of the Parquet files there
"""

import json
import os
import sys
import threading

import pyarrow.fs
import pyarrow.parquet

# What moto asks for; it takes any.
os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def store(port):
    return pyarrow.fs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
    )


if sys.argv[1] == "serve":
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    store(port).create_dir(sys.argv[2])
    print(json.dumps({"port": port}), flush=True)
    threading.Event().wait()
else:
    port, folder = sys.argv[2:]
    files = store(port).get_file_info(pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True))
    names = sorted(file.path.removeprefix(folder) for file in files if file.is_file)
    parts = [file.path for file in files if file.path.endswith(".parquet")]
    rows = [row for part in parts for row in pyarrow.parquet.read_table(part, filesystem=store(port)).to_pylist()]
    print(json.dumps({"objects": names, "rows": rows}))
