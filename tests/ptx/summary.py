#!/usr/bin/env python3
"""One line and one JSON from the parts of scripts/check-ptx."""
import argparse
import json
import pathlib
import re


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", required=True)
    parser.add_argument("--known-answers", required=True)
    parser.add_argument("--vectors", required=True)
    parser.add_argument("results", nargs="+", help="what replay.py wrote, NAME-TARGET.json")
    options = parser.parse_args()
    known = pathlib.Path(options.known_answers).read_text()
    vectors = pathlib.Path(options.vectors).read_text().splitlines()[-1]
    held, targets, wrong = (int(n) for n in re.search(r"(\d+) vectorised kernels in (\d+) targets, (\d+) wrong", vectors).groups())
    parts = {pathlib.Path(path).stem: json.loads(pathlib.Path(path).read_text()) for path in options.results}
    kernels = {name: part for name, part in parts.items() if name.startswith("kernels")}
    failures = sum(len(p["failures"]) + len(p["never_run"]) for p in parts.values())
    out = {
        "known_answers": int(re.search(r"Ran (\d+) tests", known)[1]), "known_answers_ok": known.rstrip().endswith("OK"),
        "vectorised_kernels": held, "vectorised_wrong": wrong, "parts": parts,
        "passed": not failures and not wrong and known.rstrip().endswith("OK"),
    }
    pathlib.Path(options.json).write_text(json.dumps(out, indent=1) + "\n")
    print(f"check-ptx: {'all agree' if out['passed'] else 'FAILED'}: "
          + "; ".join(f"{', '.join(p['targets'])}: {p['kernels_run']} of {p['kernels']} kernels, {p['results']} results" for p in kernels.values())
          + f"; {held} vectorised; {out['known_answers']} known answers; {failures + wrong} wrong")


if __name__ == "__main__":
    main()
