"""Asks the hub and DuckDB the same: compare.py ENDPOINTS QUESTIONS EXPORTED

The hub copies its tables as Parquet to the folder EXPORTED, which has to be what its nodes have as `query.export_dir`;
files that are there are taken as they are. Then each `*.sql` of the folder QUESTIONS runs in the hub and in DuckDB over
those files, word for word the same. Both answers come as tables of Arrow and are compared row by row: names of
columns, text, times, whole numbers and decimals have to be equal, floating-point numbers up to their last digits.
Exits with 1 if any differs.

With --times N each runs N times on either side, in turn, after a run that doesn't count, and what is told are medians:
from when the statement is sent over an open connection until the last row is there.
"""

import argparse
import datetime
import decimal
import json
import math
import pathlib
import statistics
import sys
import time

import duckdb

# The client of this checkout, whatever is installed.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "client/python/src"))
import isthmus

TABLES = ["profiles", "events", "identifiers", "link_facts", "quarantine", "segment_members"]
# Of floating-point numbers so much may differ: their sums depend on the order.
RELATIVE, ABSOLUTE = 1e-9, 1e-12


def plain(value):
    """A value of either side in one form: exact numbers as decimals, times as those of UTC."""
    if value is None or isinstance(value, (bool, float, str)):
        return value
    if isinstance(value, int):
        return decimal.Decimal(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def same(left, right):
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    numbers = (float, decimal.Decimal)
    if isinstance(left, numbers) and isinstance(right, numbers) and float in (type(left), type(right)):
        left, right = float(left), float(right)
        return math.isclose(left, right, rel_tol=RELATIVE, abs_tol=ABSOLUTE) or (left != left and right != right)
    return type(left) is type(right) and left == right


def difference(ours, theirs):
    """What is first found to differ; nothing where the answers are the same."""
    names = [[name.lower() for name in answer.column_names] for answer in (ours, theirs)]
    if names[0] != names[1]:
        return f"the hub names columns {names[0]}, DuckDB {names[1]}"
    if ours.num_rows != theirs.num_rows:
        return f"the hub has {ours.num_rows} rows, DuckDB {theirs.num_rows}"
    columns = [[plain(value) for value in column.to_pylist()] for column in ours.columns]
    others = [[plain(value) for value in column.to_pylist()] for column in theirs.columns]
    rows = zip(zip(*columns, strict=True), zip(*others, strict=True), strict=True)
    for row, (left, right) in enumerate(rows, 1):
        for name, one, other in zip(names[0], left, right, strict=True):
            if not same(one, other):
                return f"row {row}, column {name}: the hub says {one!r}, DuckDB {other!r}"
    return None


def export(hub, folder):
    for table in TABLES:
        if not (folder / f"{table}.parquet").exists():
            begun = time.perf_counter()
            (copied,) = hub.sql(f"COPY (SELECT * FROM {table}) TO '{table}.parquet'").rows()
            print(f"{table}: {copied['rows']} rows in {time.perf_counter() - begun:.1f} s", file=sys.stderr)


def duck(folder, threads):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    if threads:
        connection.execute(f"SET threads = {threads}")
    for table in TABLES:
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{folder / table}.parquet')")
    return connection


def taken(run):
    begun = time.perf_counter()
    answer = run()
    return answer, (time.perf_counter() - begun) * 1e3


def ask(question, hub, connection, times):
    def ours():
        return hub.sql(question).to_arrow()

    def theirs():
        return connection.sql(question).to_arrow_table()

    try:
        (mine, first), (other, second) = taken(ours), taken(theirs)
    except (isthmus.Error, duckdb.Error) as error:
        return {"rows": 0, "difference": f"{type(error).__name__}: {error}"}
    told = {"rows": mine.num_rows, "difference": difference(mine, other)}
    measured = [(taken(ours)[1], taken(theirs)[1]) for _ in range(times)] or [(first, second)]
    told["hub_ms"], told["duckdb_ms"] = (statistics.median(side) for side in zip(*measured, strict=True))
    told["ratio"] = told["hub_ms"] / told["duckdb_ms"]
    return told


def show(told):
    if told["difference"]:
        return f"{told['question']:36} {told['difference']}"
    return "{question:36} {rows:>9} {hub_ms:>10.1f} {duckdb_ms:>10.1f} {ratio:>7.2f}".format(**told)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoints")
    parser.add_argument("questions", type=pathlib.Path)
    parser.add_argument("exported", type=pathlib.Path)
    parser.add_argument("--times", type=int, default=0, help="runs that are measured; else the only one is")
    parser.add_argument("--threads", type=int, default=0, help="threads of DuckDB; by default its own choice")
    parser.add_argument("--only", default="", metavar="TEXT", help="only questions with this in their names")
    parser.add_argument("--json", action="store_true", help="an object for each question, and no table")
    arguments = parser.parse_args()
    hub = isthmus.Client(arguments.endpoints)
    export(hub, arguments.exported)
    connection = duck(arguments.exported, arguments.threads)
    if not arguments.json:
        print(f"{'question':36} {'rows':>9} {'hub ms':>10} {'DuckDB ms':>10} {'ratio':>7}")
    all_told = []
    for file in sorted(arguments.questions.glob("*.sql")):
        question = file.read_text(encoding="utf-8")
        if arguments.only not in file.stem:
            continue
        told = {"question": file.stem} | ask(question, hub, connection, arguments.times)
        all_told.append(told)
        print(json.dumps(told) if arguments.json else show(told), flush=True)
    differ = [told["question"] for told in all_told if told["difference"]]
    ratios = [told["ratio"] for told in all_told if "ratio" in told]
    if not arguments.json and ratios:
        alike, middle, most = len(all_told) - len(differ), statistics.median(ratios), max(ratios)
        print(f"{alike} of {len(all_told)} the same; ratio {middle:.2f} at the median, {most:.2f} at most")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
