"""What scripts/gpu-acceptance's figures come to: criteria, and the report."""
import math

MODEL_LEAD = {"resnet18": 1.0, "model_cnn": 1.5}  # times PyTorch's best, 16 bits, batch 256
COPY_SHARE = 0.85                                 # of a copy's rate, for a kernel that memory limits


def nearest_copy(rows: list, row: dict) -> dict | None:
    """The copy that moves about as many bytes."""
    copies = [r for r in rows if r["kernel"] == "copy" and r.get("gb_per_s")]
    return min(copies, key=lambda c: abs(math.log(c["work"] / row["work"])), default=None)


def with_shares(rows: list) -> list:
    """Memory-bound rows with their share of a copy's rate."""
    result = []
    for row in rows:
        copy = nearest_copy(rows, row) if row["bound"] == "memory" and row["kernel"] != "copy" and row["timed"] else None
        result.append(row | ({"copy_share": row["gb_per_s"] / copy["gb_per_s"]} if copy else {}))
    return result


def criterion(name: str, held: bool | None, detail: str) -> dict:
    """held None: could not be judged."""
    return {"criterion": name, "held": held, "detail": detail}


def speed_criterion(model: str, cairn: dict | None, peers: list) -> dict:
    lead = MODEL_LEAD[model]
    name = f"{model} trains at least {lead:g} times as fast as PyTorch's best"
    peers = [p for p in peers if p.get("images_per_s")]
    if not cairn or not cairn.get("images_per_s"):
        return criterion(name, None, "cairn was not timed")
    if not peers:
        return criterion(name, None, f"{cairn['images_per_s']:.0f} images/s; PyTorch was not timed")
    best = max(peers, key=lambda p: p["images_per_s"])
    ratio = cairn["images_per_s"] / best["images_per_s"]
    return criterion(name, ratio >= lead, f"{cairn['images_per_s']:.0f} images/s, PyTorch {best['images_per_s']:.0f} ({best['mode']}): {ratio:.2f} times")


def memory_criterion(rows: list) -> dict:
    name = f"memory-bound kernels reach {COPY_SHARE:.0%} of a copy's rate"
    judged = [r for r in with_shares(rows) if "copy_share" in r]
    if not judged:
        return criterion(name, None, "nothing was timed")
    slow = sorted((r for r in judged if not r["copy_share"] >= COPY_SHARE), key=lambda r: r["copy_share"])
    detail = f"{len(judged) - len(slow)} of {len(judged)} do"
    if slow:
        detail += "; slower: " + ", ".join(f"{r['kernel']} {r['shape']} {r['dtype']} {r['copy_share']:.0%}" for r in slow)
    return criterion(name, not slow, detail)


def loss_criterion(model: str, cairn32: list, torch32: list, cairn16: list, torch16: list) -> dict:
    """Both begin with the same weights and images, without dropout. In fp32 the first losses differ by roundings alone
    (1e-6 between two layouts of PyTorch; 1e-4 allowed), the second step's by what batch norm makes of them (1e-3; 1e-2
    allowed). In 16 bits cairn may lie twice as far from PyTorch's fp32 loss as PyTorch's own 16 bits do, and 1e-2."""
    name = f"{model}: losses as PyTorch's"
    if len(torch32) < 2 or not torch16 or len(cairn32) < 2 or not cairn16:
        return criterion(name, None, "not compared")
    first, second = abs(cairn32[0] - torch32[0]), abs(cairn32[1] - torch32[1])
    half, own = abs(cairn16[0] - torch32[0]), abs(torch16[0] - torch32[0])
    held = first <= 1e-4 and second <= 1e-2 and half <= 2 * own + 1e-2
    return criterion(name, held, f"fp32 off by {first:.1e}, then {second:.1e}; 16 bits by {half:.1e}, PyTorch's own by {own:.1e}")


def stage_criterion(name: str, stages: list) -> dict:
    failed = [s["stage"] for s in stages if s["status"] == "failed"]
    missing = [s["stage"] for s in stages if s["status"] == "left out"]
    if failed or not stages:
        return criterion(name, False, "failed: " + (", ".join(failed) or "no stage ran"))
    return criterion(name, None if missing else True, "left out: " + ", ".join(missing) if missing else f"{len(stages)} stages passed")


def overall(criteria: list, emulated: bool) -> str:
    if any(c["held"] is False for c in criteria):
        return "failed"
    if emulated:
        return "rehearsed"
    return "passed" if all(c["held"] for c in criteria) else "incomplete"


def table(header: list, rows: list) -> list:
    return ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"] + \
           ["| " + " | ".join(str(c) for c in row) + " |" for row in rows] + [""]


def number(value, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def kernel_table(rows: list, torch_rows: list) -> list:
    peers = {(r["kernel"], r["shape"], r["dtype"]): r["torch_us"] for r in torch_rows}
    lines = []
    for r in with_shares(rows):
        peer = peers.get((r["kernel"], r["shape"], r["dtype"]))
        timed = r["timed"]
        lines.append([r["kernel"], r["shape"], r["dtype"], number(r["median_us"]) if timed else "not timed",
                      f"{number(r['p10_us'])} to {number(r['p90_us'])}" if timed else "", r["samples"],
                      number(r.get("gb_per_s")) if timed else "", f"{r['copy_share']:.0%}" if "copy_share" in r else "",
                      number(r.get("tflops")), number(peer), number(peer / r["median_us"], 2) if peer and timed else ""])
    return table(["kernel", "shape", "dtype", "us", "p10 to p90", "samples", "GB/s", "of a copy's", "TFLOP/s", "PyTorch, us", "PyTorch / cairn"], lines)


def report(result: dict) -> str:
    """Markdown."""
    words = {"passed": "yes", "failed": "NO", "left out": "left out"}
    held = {True: "yes", False: "NO", None: "not judged"}
    lines = [f"# Acceptance on {result['name']}", ""]
    if result["emulated"]:
        lines += ["**Emulated: the kernels ran on the CPU. Nothing here says anything about speed.**", ""]
    lines += [f"{result['date']}, cairn {result['version']}, {result['device']}; driver {result['driver']}. Verdict: **{result['verdict']}**.", ""]
    lines += table(["criterion", "held", "detail"], [[c["criterion"], held[c["held"]], c["detail"]] for c in result["criteria"]])
    lines += ["## Stages", ""] + table(["stage", "passed", "seconds", "detail"],
                                       [[s["stage"], words[s["status"]], number(s["seconds"]), s["detail"]] for s in result["stages"]])
    lines += ["## Training", ""] + table(
        ["model", "engine", "mode", "precision", "batch", "images/s", "median step's", "peak MB"],
        [[t["model"], t["engine"], t.get("mode", ""), t["precision"], t["batch_size"], number(t.get("images_per_s")) or "not timed",
          number(t.get("images_per_s_median")), t.get("peak_memory_mb", "")] for t in result["training"]])
    lines += ["Epochs over images that stay on the device:", ""] + table(
        ["model", "images", "batch", "epoch, s", "device busy, s", "idle"],
        [[e["model"], e["resident_images"], e["batch_size"], number(e.get("epoch_s"), 4) or "not timed", number(e.get("device_busy_s"), 4),
          f"{e['idle_share']:.1%}" if "idle_share" in e else ""] for e in result["epochs"]])
    if result["clocks"]:
        lines += ["Clocks while measuring (nvidia-smi): " + ", ".join(f"{k} {v['min']:g} to {v['max']:g}" for k, v in result["clocks"].items()) + ".", ""]
    lines += ["## Kernels", "", "Each sample's inputs come from memory: the last cache is overwritten before it.", ""]
    lines += kernel_table(result["kernels"], result["torch_kernels"])
    if result["plain_kernels"]:
        lines += ["cairn's own convolutions and products, in cuDNN's and cuBLASLt's place:", ""] + kernel_table(result["plain_kernels"], [])
    return "\n".join(lines)
