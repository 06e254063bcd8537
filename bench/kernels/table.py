#!/usr/bin/env python3
"""kernel_bench's JSON as a Markdown table: table.py FILE. Median of the repetitions, with the best behind it."""
import json
import statistics
import sys


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        data = json.load(f)
    rows = {}
    for b in data["benchmarks"]:
        if b.get("run_type") == "aggregate":
            continue
        op, shape, dtype, who = b["name"].split("/")[:4]
        rows.setdefault((op, shape, dtype), {}).setdefault(who, []).append((b["real_time"], b["bytes_per_second"] / 1e9))
    context = data["context"]
    print(f"{context.get('cpu', 'unknown CPU')}, {context.get('threads', '?')} threads, load {context.get('load_avg')}\n")
    copies = {(shape, dtype): max(rate for _, rate in who["memcpy"]) for (op, shape, dtype), who in rows.items() if op == "copy"}
    print("| kernel | shape | dtype | cairn, us (best) | GB/s | of a copy's | oneDNN, us (best) | oneDNN / cairn |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (op, shape, dtype), who in rows.items():
        if "cairn" not in who:
            continue
        times, rates = zip(*who["cairn"])
        median = statistics.median(times)
        copy = copies.get((shape, dtype))
        share = f"{statistics.median(rates) / copy:.2f}" if copy else ""
        theirs = [t for t, _ in who.get("oneDNN", [])]
        peer = f"{statistics.median(theirs):.0f} ({min(theirs):.0f}) | {statistics.median(theirs) / median:.2f}" if theirs else "none | "
        print(f"| {op} | {shape} | {dtype} | {median:.0f} ({min(times):.0f}) | {statistics.median(rates):.1f} | {share} | {peer} |")


main()
