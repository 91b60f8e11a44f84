"""A drift that is real: a pump's models meet coolers they were not trained with; do the labels move the routing in time?

    drift.py SERVICE [--rate N] [--minutes M] [--label-share S] [--label-delay S] [--json FILE]

The models of `hydraulic-leak` know cycles with a good cooler (100 %) only.  Here the readings come from cycles with a
cooler at 100 %, then 20 %, then 3 %, each cycle drawn at random with its true label, and are sent to a service of its
own (`infer-router serve`, queue in a file), one after the other.  Of the answers some are labelled, late.  Four ways:

    learned   slack-split, as it comes
    static    the same without labels: the accuracies of the training reports
    truth     slack-split, told each model's true accuracy on the present cooler at the moment it changes (/feedback)
    fast      the cheap model only

Counted is what the router answered: right answers over all readings, by cooler and, behind the 200th label that came
for a cooler, apart.  Standard library only.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASK = "hydraulic-leak"
COOLERS = (100, 20, 3)
MODELS = {"fast": "logreg", "accurate": "hist_gradient_boosting"}
LABELS = 200
WAYS = ("learned", "static", "truth", "fast")


def cycles() -> dict[int, list[tuple[dict[str, float], str]]]:
    """Readings and true classes by cooler."""
    path = Path(os.environ.get("SENSOR_DATA_DIR", "../shared/data")) / "hydraulic" / "hydraulic_cycles.csv"
    found: dict[int, list[tuple[dict[str, float], str]]] = {cooler: [] for cooler in COOLERS}
    with path.open() as lines:
        for row in csv.DictReader(lines):
            reading = {name: float(value) for name, value in row.items() if name.endswith(("_mean", "_std"))}
            found[int(row["cooler_pct"])].append((reading, "leak" if int(row["pump_leak"]) else "none"))
    return found


class Service:
    """A service of one way, until the end of a `with`."""

    def __init__(self, binary: str, policy: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {"API_HOST": "127.0.0.1", "API_PORT": str(self.port), "ROUTING_POLICY": policy, "LOG_LEVEL": "error"}
        settings |= {"QUEUE_FILE": f"{self.folder.name}/queue.sqlite", "MODEL_DIR": str(Path("models").resolve())}
        settings |= {"CACHE_BACKEND": "off", "DRAIN_DELAY_MS": "0"}
        environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"} | settings
        self.process = subprocess.Popen([binary, "serve"], env=environment, stdout=subprocess.DEVNULL)
        self.line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def __enter__(self) -> Service:
        for _ in range(600):
            try:
                self.ask("GET", "/readyz")
                return self
            except (OSError, RuntimeError, http.client.HTTPException):
                self.line.close()
                time.sleep(0.1)
        sys.exit("drift.py: the service does not become ready")

    def __exit__(self, *_: object) -> None:
        self.line.close()
        self.process.terminate()
        self.process.wait(30)
        self.folder.cleanup()

    def ask(self, method: str, path: str, body: object = None) -> dict:
        text = None if body is None else json.dumps(body)
        self.line.request(method, path, text, {"content-type": "application/json"} if text else {})
        answer = self.line.getresponse()
        told = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {told.decode(errors='replace')}")
        return json.loads(told) if told.startswith(b"{") else {}


def accuracies(binary: str, known: dict) -> dict[int, dict[str, float]]:
    """Each model's true accuracy by cooler, asked of the service itself."""
    found = {}
    with Service(binary, "always-fast") as service:
        for cooler in COOLERS:
            right = dict.fromkeys(MODELS, 0)
            for reading, label in known[cooler]:
                for tier, model in MODELS.items():
                    body = {"task": TASK, "sensor_data": reading, "model_name": model}
                    right[tier] += service.ask("POST", "/predict", body)["prediction"] == label
            found[cooler] = {tier: count / len(known[cooler]) for tier, count in right.items()}
    return found


def drive(args: argparse.Namespace, way: str, known: dict, true: dict) -> dict:
    """One way over all coolers."""
    chance = random.Random(args.seed)
    late: list[tuple[float, str, str, int]] = []
    labelled = dict.fromkeys(COOLERS, 0)
    counts = {cooler: {"all": [0, 0], "after": [0, 0], "accurate": 0} for cooler in COOLERS}
    with Service(args.service, "always-fast" if way == "fast" else "slack-split") as service:
        begin = time.monotonic()
        for place in range(len(COOLERS) * args.readings):
            cooler = COOLERS[place // args.readings]
            if way == "truth" and place % args.readings == 0:
                for tier in MODELS:
                    service.ask("POST", "/feedback", {"task": TASK, "model": tier, "accuracy": true[cooler][tier]})
            # Drawn whatever the way is: all ways meet the same readings and the same labels.
            (reading, label), told = chance.choice(known[cooler]), chance.random() < args.label_share
            due = begin + place / args.rate
            while (now := time.monotonic()) < due:
                time.sleep(due - now)
            while late and late[0][0] <= now:
                _, request_id, answer, of = heapq.heappop(late)
                service.ask("POST", "/feedback", {"request_id": request_id, "label": answer})
                labelled[of] += 1
            given = service.ask("POST", "/predict", {"task": TASK, "sensor_data": reading, "deadline_ms": 1000})
            count, right = counts[cooler], given["prediction"] == label
            count["accurate"] += given["tier"] == "accurate"
            for part in ("all", "after") if labelled[cooler] >= LABELS or way != "learned" else ("all",):
                count[part][0] += right
                count[part][1] += 1
            if way == "learned" and told:
                heapq.heappush(late, (now + args.label_delay, given["request_id"], label, cooler))
    share = lambda pair: round(100 * pair[0] / pair[1], 2) if pair[1] else None
    return {
        str(cooler): {
            "right": share(count["all"]), "right_after_200_labels": share(count["after"]),
            "accurate_share": share([count["accurate"], args.readings]), "labels": labelled[cooler],
        }
        for cooler, count in counts.items()
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("service", help="the infer-router binary")
    asked.add_argument("--rate", type=float, default=50, help="readings a second (50)")
    asked.add_argument("--minutes", type=float, default=2, help="minutes of each cooler (2)")
    asked.add_argument("--label-share", type=float, default=0.1, help="share of the answers that are labelled (0.1)")
    asked.add_argument("--label-delay", type=float, default=30, help="seconds until a label comes (30)")
    asked.add_argument("--way", action="append", choices=WAYS, help="only this way; may be given again")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--json", help="write the figures to this file as well")
    args = asked.parse_args()
    args.readings = int(60 * args.minutes * args.rate)
    known = cycles()
    true = accuracies(args.service, known)
    print("true accuracies in %, by cooler: " + "; ".join(
        f"{cooler} %: " + ", ".join(f"{tier} {100 * true[cooler][tier]:.1f}" for tier in MODELS) for cooler in COOLERS
    ))
    found = {}
    print("| way | cooler % | right % | right % behind 200 labels | by the accurate model % | labels |\n|---|---|---|---|---|---|")
    for way in args.way or WAYS:
        found[way] = drive(args, way, known, true)
        for cooler, row in found[way].items():
            print(f"| {way} | {cooler} | " + " | ".join("-" if row[key] is None else str(row[key]) for key in row) + " |",
                  flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps({"true": true, "ways": found}, indent=1))


if __name__ == "__main__":
    main()
