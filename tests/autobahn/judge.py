"""Counts what the Autobahn test suite found, and fails if a case failed or was not tried.

Each case has two verdicts: on what was said, and on how the connection ended.
"""

import collections
import json
import sys

# How many cases 1 to 7 and 10 have: fewer would prove less.
CASES = 247
# NON-STRICT: as the standard allows, if not as early as it could be. INFORMATIONAL: the standard does not say.
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}

(report,) = json.load(open(sys.argv[1])).values()
counts = collections.Counter()
failed = []
for case, verdict in report.items():
    said, ended = verdict["behavior"], verdict["behaviorClose"]
    counts[said] += 1
    if said not in GOOD or ended not in GOOD:
        failed.append((case, said, ended))

for case, said, ended in failed:
    print("case %s: %s, its end: %s" % (case, said, ended))
by_verdict = ", ".join("%d %s" % (count, verdict) for verdict, count in sorted(counts.items()))
print("autobahn: %d cases of %d: %s" % (len(report), CASES, by_verdict))
print("%d passed, %d failed" % (len(report) - len(failed), len(failed)))
sys.exit(bool(failed) or len(report) != CASES)
