#!/usr/bin/env python3
"""scripts/gpu-acceptance from end to end on a GPU that is not there: its programs, nvidia-smi, PyTorch and
compute-sanitizer are stand-ins that print what the real ones print. No line of the script is new on the day."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

STAND_IN = '''#!{python}
import json, os, pathlib, sys, time
name, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
wish = os.environ.get("STAND_IN", "")
def value(option, default=None):
    return arguments[arguments.index(option) + 1] if option in arguments else default
def gtest():
    print("[==========] 3 tests from 1 test suite ran."); print("[  PASSED  ] 3 tests.")
if name == "nvidia-smi":
    if "-lms" in arguments:
        while True:
            print("1980, 2619, 41, 350.10, 97", flush=True); time.sleep(0.05)
    asked = " ".join(arguments)
    print("580.95" if "driver_version" in asked else "9.0" if "compute_cap" in asked else "NVIDIA-SMI")
elif name == "cairn":
    works = [{{"what": w, "found": f, "works": True, "advice": ""}} for w, f in (
        ("cuda", "NVIDIA H100 80GB HBM3, sm_90, 79 GiB: the launch self-test passed"), ("ops on cuda:0", "right"),
        ("CUDA backend, cuDNN", "cuDNN 9.19.0"), ("CUDA backend, cuBLASLt", "cuBLASLt 13.1.0"))]
    print(json.dumps({{"version": "0.1.0", "findings": works}}))
elif name.endswith("_tests"):
    gtest()
elif name == "compute-sanitizer":
    gtest()
    tool = value("--tool")
    found = 3 if wish == "race" and tool == "racecheck" else 0
    print(f"========= RACECHECK SUMMARY: {{found}} hazards displayed" if tool == "racecheck" else "========= ERROR SUMMARY: 0 errors")
    sys.exit(9 if found else 0)
elif name == "kernel_times":
    for kernel, rate in (("copy", 3000.0), ("relu_forward", 2000.0 if wish == "slow" else 2900.0)):
        print(json.dumps({{"kernel": kernel, "shape": "[256,56,56,64]", "dtype": "bf16", "bound": "memory", "work": 1e8, "timed": True, "samples": 30,
                          "median_us": 34.0, "p10_us": 33.0, "p90_us": 36.0, "gb_per_s": rate}}))
elif name == "train_speed":
    assert value("--device") == "cuda"
    row = {{"engine": "cairn", "device": "H100", "timed": True, "model": value("--model"), "precision": value("--precision"), "batch_size": int(value("--batch-size"))}}
    if "--resident" in arguments:
        row |= {{"resident_images": 768, "steps_an_epoch": 3, "epoch_s": 0.1, "device_busy_s": 0.09, "idle_share": 0.1}}
    else:
        row |= {{"images_per_s": 3000.0, "images_per_s_median": 3010.0, "losses": [1.9, 1.8], "peak_memory_mb": 9000}}
    print(json.dumps(row))
elif arguments and arguments[0] == "-c":  # is PyTorch here?
    sys.exit(1 if wish == "no-torch" else 0)
elif "speed_torch" in arguments[0]:
    print(json.dumps({{"engine": "PyTorch", "model": value("--model"), "mode": value("--mode", "eager"), "precision": value("--precision"),
                      "batch_size": int(value("--batch-size")), "timed": True, "losses": [1.9, 1.8], "images_per_s": 1900.0}}))
elif "kernels_torch" in arguments[0]:
    print(json.dumps({{"kernel": "relu_forward", "shape": "[256,56,56,64]", "dtype": "bf16", "torch_us": 40.0}}))
'''


class Acceptance(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.top = pathlib.Path(self.folder.name) / "cairn-gpu"
        for name in ("bin", "lib", "path", "sanitizer"):
            (self.top / name).mkdir(parents=True)
        for place in [f"bin/{n}" for n in ("cairn", "train_speed", "kernel_times", *(f"gpu_{p}_tests" for p in ("conformance", "ops", "vendor", "train")))] + \
                ["path/nvidia-smi", "path/python3", "path/python-with-torch", "sanitizer/compute-sanitizer"]:
            (self.top / place).write_text(STAND_IN.format(python=sys.executable))
            (self.top / place).chmod(0o755)
        for place in ("scripts/gpu-acceptance", *(f"bench/gpu/{p.name}" for p in (ROOT / "bench/gpu").glob("*.py"))):
            (self.top / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / place, self.top / place)
        (self.top / "BUNDLE.json").write_text(json.dumps({"date": "2026-01-01", "commit": "abc", "preset": "cuda"}))

    def tearDown(self):
        self.folder.cleanup()

    def run_with(self, wish, *arguments):
        environment = {k: v for k, v in os.environ.items() if k != "PEER_PYTHON"} | {"STAND_IN": wish, "PATH": f"{self.top}/path:/usr/bin:/bin"}
        return subprocess.run([sys.executable, self.top / "scripts/gpu-acceptance", "--out", self.top / "out", "--python", self.top / "path/python-with-torch", *arguments],
                              capture_output=True, text=True, env=environment)

    def test_a_good_gpu_passes_and_leaves_its_figures(self):
        done = self.run_with("")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("gpu-acceptance: passed on NVIDIA H100 80GB HBM3", done.stdout.splitlines()[-1])
        result = json.loads((self.top / "docs/gpu/nvidia-h100-80gb-hbm3.json").read_text())
        self.assertEqual(result["verdict"], "passed")
        self.assertEqual(result["driver"], "580.95")
        self.assertEqual(result["clocks"]["clocks.sm"], {"min": 1980.0, "max": 1980.0})
        self.assertTrue(all(c["held"] for c in result["criteria"]), result["criteria"])
        self.assertEqual({t["mode"] for t in result["training"] if t["engine"] == "PyTorch"}, {"eager", "compiled", "graph", "compiled_graph"})
        self.assertIn("| resnet18 | 768 | 256 | 0.1000 | 0.0900 | 10.0% |", (self.top / "out/report.md").read_text())

    def test_what_is_wrong_fails_and_is_named(self):
        for wish, word in (("race", "compute-sanitizer racecheck"), ("slow", "relu_forward")):
            done = self.run_with(wish)
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
            self.assertIn("FAILS", done.stdout)
            self.assertIn(word, "".join(line for line in done.stdout.splitlines() if "FAILS" in line))

    def test_without_pytorch_it_is_incomplete(self):
        done = self.run_with("no-torch")
        self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
        self.assertIn("gpu-acceptance: incomplete", done.stdout.splitlines()[-1])

    def test_a_bundle_for_a_gpu_is_no_rehearsal(self):
        self.assertEqual(self.run_with("", "--rehearse").returncode, 1)


if __name__ == "__main__":
    unittest.main()
