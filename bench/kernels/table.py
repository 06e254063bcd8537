#!/usr/bin/env python3
"""Markdown tables of the kernels: table.py FILE... takes JSON of kernel_bench (CPU) and device_bench (CUDA).

Times are medians of the repetitions, with the best behind. "of a copy's": the rate against that of a copy of the same
tensor, the machine's own peak for whatever only moves bytes; where no such copy was timed, of the fastest one (in brackets).
"""
import json
import statistics
import sys

RIVALS = ["oneDNN", "plain", "cuDNN", "cuBLASLt", "PyTorch"]


def grouped(benchmarks):
    """{(op, shape, dtype): {who: [entries]}} by name, for repetitions may have run in a random order."""
    rows = {}
    for b in benchmarks:
        if b.get("run_type") != "aggregate":
            op, shape, dtype, who = b["name"].split("/")[:4]
            rows.setdefault((op, shape, dtype), {}).setdefault(who, []).append(b)
    return dict(sorted(rows.items()))


def median(entries, field="real_time"):
    return statistics.median(e[field] for e in entries)


def timed_table(rows):
    rivals = [r for r in RIVALS if any(r in who for who in rows.values())]
    copies = {key[1:]: max(e["bytes_per_second"] for entries in who.values() for e in entries)
              for key, who in rows.items() if key[0] == "copy"}
    peak = max(copies.values(), default=None)
    print("| kernel | shape | dtype | cairn, us (best) | GB/s | of a copy's | " +
          " | ".join(f"{r}, us (best) | {r} / cairn" for r in rivals) + " |")
    print("| --- " * (6 + 2 * len(rivals)) + "|")
    for (op, shape, dtype), who in rows.items():
        ours = who.get("cairn")
        if not ours:
            continue
        rate, copy = median(ours, "bytes_per_second"), copies.get((shape, dtype))
        cells = [op, shape, dtype, f"{median(ours):.0f} ({min(e['real_time'] for e in ours):.0f})", f"{rate / 1e9:.1f}",
                 f"{rate / copy:.2f}" if copy else f"({rate / peak:.2f})" if peak else ""]
        for rival in rivals:
            theirs = who.get(rival)
            cells += [f"{median(theirs):.0f} ({min(e['real_time'] for e in theirs):.0f})", f"{median(theirs) / median(ours):.2f}"] if theirs else ["", ""]
        print("| " + " | ".join(cells) + " |")


def counted_table(rows, gpu):
    print(f"| kernel | shape | dtype | launches | must move, MB | asks for, MB | in sectors, MB | sectors a request | coalesced | bank passes | atomics | registers | spilled | occupancy ({gpu}) | estimate, us | time |")
    print("| --- " * 16 + "|")
    for (op, shape, dtype), who in rows.items():
        for server, entries in who.items():
            row = entries[0]
            kernels = row["kernels"]

            def total(field):
                return sum(k[field] for k in kernels)

            known = [k for k in kernels if "registers" in k]
            cells = [op if server == "cairn" else f"{op}, {server}", shape, dtype]
            if not kernels or not total("requests"):
                cells += ["0", f"{row['bytes'] / 1e6:.3f}"] + ["library, not counted"] + [""] * 9
            else:
                cells += [str(total("launches")), f"{row['bytes'] / 1e6:.3f}", f"{total('bytes') / 1e6:.3f}",
                          f"{32e-6 * total('sectors'):.3f}", f"{total('sectors') / total('requests'):.1f}",
                          f"{100 * total('ideal_sectors') / total('sectors'):.0f} %",
                          f"{total('waves') / total('ideal_waves'):.2f}" if total("ideal_waves") else "",
                          str(total("atomics")),
                          str(max(k["registers"] for k in known)) if known else "", str(max(k["spills"] for k in known)) if known else "",
                          f"{100 * min(k['occupancy'] for k in known):.0f} %" if known else "", f"{total('estimate_us'):.2f}"]
            print("| " + " | ".join(cells + ["not timed"]) + " |")


def main():
    files = {}  # by what was measured: plain products on a GPU stand in a file of their own
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as f:
            data = json.load(f)
        files.setdefault(data["context"].get("device", "cpu"), []).append(data)
    for measured in files.values():
        context, rows = measured[0]["context"], grouped([b for data in measured for b in data["benchmarks"]])
        if "device" not in context:
            print(f"{context.get('cpu', 'unknown CPU')}, {context.get('threads', '?')} threads, load {context.get('load_avg')}\n")
            timed_table(rows)
        elif context["timed"]:
            print(f"{context['device']}, batch {context['batch']}; clocks: {context['clocks'] or 'not known'}\n")
            timed_table(rows)
        else:
            print(f"{context['device']}, batch {context['batch']}: counted, not timed; registers, occupancy and estimates are {context['gpu']}'s\n")
            counted_table(rows, context["gpu"])
        print()


main()
