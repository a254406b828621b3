"""What is true of a purchase history, in plain Python: cdnow.py FILE

Prints a line of JSON for each month in which customers bought for the first time: how many they are (`customers`), how
many of them bought again in each month after (`again`, by months since), and what share ever did (`repeat_rate`).
"""

import json
import sys
from collections import defaultdict


def month(date: str) -> int:
    return int(date[:4]) * 12 + int(date[4:6]) - 1


def main(path: str) -> None:
    months = defaultdict(list)
    with open(path, encoding="ascii") as rows:
        for row in rows:
            _, customer, date, _, _ = row.split()
            months[customer].append(month(date))
    cohorts = defaultdict(lambda: {"customers": 0, "repeated": 0, "again": defaultdict(int)})
    for bought in months.values():
        first = min(bought)
        cohort = cohorts[first]
        cohort["customers"] += 1
        cohort["repeated"] += len(bought) > 1
        for later in set(bought) - {first}:
            cohort["again"][later - first] += 1
    for first, cohort in sorted(cohorts.items()):
        told = {
            "cohort": f"{first // 12:04d}-{first % 12 + 1:02d}",
            "customers": cohort["customers"],
            "repeat_rate": round(cohort["repeated"] / cohort["customers"], 6),
            "again": {str(since): n for since, n in sorted(cohort["again"].items())},
        }
        print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
