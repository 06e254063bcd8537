#!/usr/bin/env python3
"""Holds the figures of `cairn evaluate` against scikit-learn's on the same predictions, and `--compare` against SciPy.

Needs scikit-learn==1.9.1 (which brings scipy and numpy).

    python tests/peers/sklearn_metrics.py --cairn build/release/bin/cairn --run runs/first [--compare runs/second]
"""
import argparse
import csv
import json
import os
import subprocess
import tempfile

from scipy.stats import binomtest
from sklearn import metrics


def evaluate(cairn: str, run: str, table: str, *more: str) -> tuple[dict, list[dict]]:
    out = subprocess.run([cairn, "evaluate", "--json", "--quiet", "--part", "all", "--run", run, "--predictions", table, *more],
                         check=True, capture_output=True, text=True).stdout
    with open(table, newline="", encoding="utf-8") as f:
        return json.loads(out.splitlines()[-1]), list(csv.DictReader(f))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cairn", required=True)
    p.add_argument("--run", required=True)
    p.add_argument("--compare", help="a second run, on the same data")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        more = ["--compare", a.compare] if a.compare else []
        said, rows = evaluate(a.cairn, a.run, os.path.join(folder, "first.csv"), *more)
        labels, answers = [r["label"] for r in rows], [r["answer"] for r in rows]
        names = [c["name"] for c in said["classes"]]
        precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, answers, labels=names, zero_division=0)
        want = {
            "n": len(rows),
            "accuracy": metrics.accuracy_score(labels, answers),
            "balanced_accuracy": metrics.balanced_accuracy_score(labels, answers),
            "macro_f1": metrics.f1_score(labels, answers, average="macro", zero_division=0),
        }
        for name, value in want.items():
            assert abs(said[name] - value) < 1e-12, (name, said[name], value)
        for k, c in enumerate(said["classes"]):
            for name, value in (("precision", precision[k]), ("recall", recall[k]), ("f1", f1[k]), ("n", support[k])):
                assert abs(c[name] - value) < 1e-12, (c["name"], name, c[name], value)
        assert said["confusion"] == metrics.confusion_matrix(labels, answers, labels=names).tolist()
        print(f"as scikit-learn has them, on {len(rows)} images: " + ", ".join(f"{k} {v:.4f}" for k, v in want.items()))

        if a.compare:
            _, others = evaluate(a.cairn, a.compare, os.path.join(folder, "second.csv"))
            second = {r["path"]: r["answer"] for r in others}
            right = [(r["label"] == r["answer"], r["label"] == second[r["path"]]) for r in rows]
            only_first, only_second = sum(x and not y for x, y in right), sum(y and not x for x, y in right)
            c = said["compare"]
            assert (c["only_first_right"], c["only_second_right"]) == (only_first, only_second)
            p_value = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
            assert abs(c["p_value"] - p_value) < 1e-9 + 1e-6 * p_value, (c["p_value"], p_value)
            print(f"as SciPy has it: {only_first} against {only_second}, p = {p_value:.4g}")


if __name__ == "__main__":
    main()
