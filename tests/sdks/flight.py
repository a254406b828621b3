"""Flight SQL's clients of others against a hub: flight.py HOST:PORT EVENT

Connects with ADBC's driver and with pyarrow's, lists tables, runs a prepared statement, loads a pandas frame of all events of
that name. Prints a line of JSON; fails with what is wrong.
"""

import json
import sys

import adbc_driver_flightsql.dbapi as adbc
import adbc_driver_manager
import pyarrow.flight as flight

address, event = sys.argv[1:]
ALL = "SELECT message_id, name, timestamp FROM events WHERE name = '{}' ORDER BY message_id"

with adbc.connect(f"grpc://{address}") as connection:
    assert connection.adbc_get_info()["vendor_name"] == "Isthmus"
    objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    schemas = {schema["db_schema_name"]: schema for catalog in objects for schema in catalog["catalog_db_schemas"]}
    tables = {table["table_name"] for table in schemas["public"]["db_schema_tables"]}
    assert {"events", "profiles"} <= tables, tables
    with connection.cursor() as cursor:
        cursor.execute(ALL.format(event))
        frame = cursor.fetch_df()
        assert str(frame["timestamp"].dtype).startswith("datetime64"), frame.dtypes
        # The driver prepares what has parameters, and binds them.
        cursor.execute("SELECT count(*) AS n FROM events WHERE name = $1", parameters=(event,))
        assert cursor.fetchone() == (len(frame),)
        try:
            cursor.execute("SELECT emial FROM profiles")
            cursor.fetchall()
            sys.exit("a column that there isn't was found")
        except adbc_driver_manager.Error as error:
            assert "emial" in str(error), error

client = flight.FlightClient(f"grpc://{address}")
token = client.authenticate_basic_token(b"ann", b"secret")
options = flight.FlightCallOptions(headers=[token])


def any_of(name, body):
    """What Flight SQL packs its commands into: `google.protobuf.Any`."""

    def field(number, data):
        size, out = len(data), b""
        while True:
            size, low = size >> 7, size & 0x7F
            out += bytes([low | (0x80 if size else 0)])
            if not size:
                return bytes([number << 3 | 2]) + out + data

    url = f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()
    return field(1, url) + field(2, field(1, body))


descriptor = flight.FlightDescriptor.for_command(any_of("CommandStatementQuery", ALL.format(event).encode()))
info = client.get_flight_info(descriptor, options)
table = client.do_get(info.endpoints[0].ticket, options).read_all()
assert table.to_pandas().equals(frame), "both clients load the same frame"
print(json.dumps({"rows": table.num_rows}))
