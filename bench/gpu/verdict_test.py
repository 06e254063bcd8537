#!/usr/bin/env python3
"""What scripts/gpu-acceptance concludes from figures, and what its stages make of programs that misbehave."""
import os
import pathlib
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import stages  # noqa: E402
import verdict  # noqa: E402


def row(kernel, gb_per_s, work=1e9, bound="memory"):
    return {"kernel": kernel, "shape": "[1]", "dtype": "bf16", "bound": bound, "work": work, "timed": True, "samples": 30, "median_us": 10.0, "p10_us": 9.0, "p90_us": 11.0,
            "gb_per_s": gb_per_s}


class Criteria(unittest.TestCase):
    def test_speed_is_held_against_the_fastest_mode(self):
        peers = [{"mode": "eager", "images_per_s": 80.0}, {"mode": "graph", "images_per_s": 101.0}]
        self.assertIs(verdict.speed_criterion("resnet18", {"images_per_s": 100.0}, peers)["held"], False)
        self.assertIs(verdict.speed_criterion("resnet18", {"images_per_s": 101.0}, peers)["held"], True)
        self.assertIs(verdict.speed_criterion("model_cnn", {"images_per_s": 151.0}, peers)["held"], False)
        self.assertIs(verdict.speed_criterion("model_cnn", {"images_per_s": 152.0}, peers)["held"], True)

    def test_without_a_peer_nothing_is_claimed(self):
        self.assertIsNone(verdict.speed_criterion("resnet18", {"images_per_s": 100.0}, [])["held"])
        self.assertIsNone(verdict.speed_criterion("resnet18", None, [{"mode": "eager", "images_per_s": 1.0}])["held"])

    def test_kernels_are_held_against_a_copy_of_their_size(self):
        rows = [row("copy", 1000.0, 1e9), row("copy", 400.0, 1e7), row("relu", 850.0, 9e8), row("small", 341.0, 2e7), row("conv", 0.0, bound="compute")]
        self.assertIs(verdict.memory_criterion(rows)["held"], True)
        slow = verdict.memory_criterion(rows + [row("pool", 849.0, 9e8)])
        self.assertIs(slow["held"], False)
        self.assertIn("pool [1] bf16 85%", slow["detail"])
        self.assertIs(verdict.memory_criterion(rows + [row("nan", float("nan"))])["held"], False)
        self.assertIsNone(verdict.memory_criterion([dict(r, timed=False) for r in rows])["held"])

    def test_losses(self):
        def judge(cairn32, torch32, cairn16, torch16):
            return verdict.loss_criterion("resnet18", cairn32, torch32, cairn16, torch16)["held"]

        self.assertIs(judge([2.0, 1.9], [2.00009, 1.905], [2.01], [2.002]), True)
        self.assertIs(judge([2.0, 1.9], [2.0002, 1.9], [2.0], [2.0]), False)
        self.assertIs(judge([2.0, 1.9], [2.0, 1.92], [2.0], [2.0]), False)
        self.assertIs(judge([2.0, 1.9], [2.0, 1.9], [2.05], [2.01]), False)
        self.assertIs(judge([float("nan"), 1.9], [2.0, 1.9], [2.0], [2.0]), False)
        self.assertIsNone(judge([2.0, 1.9], [], [2.0], []))

    def test_overall(self):
        held, failed, open_ = ({"held": h} for h in (True, False, None))
        self.assertEqual(verdict.overall([held, held], False), "passed")
        self.assertEqual(verdict.overall([held, open_], False), "incomplete")
        self.assertEqual(verdict.overall([held, open_, failed], False), "failed")
        self.assertEqual(verdict.overall([held, open_], True), "rehearsed")
        self.assertEqual(verdict.overall([failed], True), "failed")
        self.assertIs(verdict.stage_criterion("x", [])["held"], False)


class Stages(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.machine = stages.Machine(pathlib.Path(self.folder.name), pathlib.Path(self.folder.name), True)

    def tearDown(self):
        self.folder.cleanup()

    def program(self, text):
        path = pathlib.Path(self.folder.name) / "program"
        path.write_text("#!/bin/sh\n" + text + "\n")
        path.chmod(0o755)
        return str(path)

    def test_a_stage_that_hangs_ends_with_its_children(self):
        begin = time.monotonic()
        stage = stages.run(self.machine, "hang", [self.program("sleep 60 & echo $! >child; wait")], 0.5)
        self.assertEqual(stage.status, "failed")
        self.assertIn("not done after", stage.detail)
        self.assertLess(time.monotonic() - begin, 20)
        child = int((pathlib.Path(self.folder.name) / "child").read_text())
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                if "Z" in pathlib.Path(f"/proc/{child}/stat").read_text().split(")")[1]:
                    break
            except FileNotFoundError:
                break
            time.sleep(0.05)
        else:
            self.fail("the child lives")

    def test_tests_that_did_not_run_have_not_passed(self):
        skipped = "echo '[==========] 3 tests from 1 test suite ran.'; echo '[  PASSED  ] 0 tests.'; echo '[  SKIPPED ] 3 tests'"
        self.assertEqual(stages.run_tests(self.machine, "t", self.program(skipped)).status, "failed")
        self.assertEqual(stages.run_tests(self.machine, "t", self.program("true")).status, "failed")
        good = "echo '[==========] 3 tests from 1 test suite ran.'; echo '[  PASSED  ] 3 tests.'"
        self.assertEqual(stages.run_tests(self.machine, "t", self.program(good)).status, "passed")
        self.assertEqual(stages.run_tests(self.machine, "t", self.program(good + "; exit 1")).status, "failed")
        self.assertEqual(stages.run_tests(self.machine, "t", os.path.join(self.folder.name, "missing")).status, "failed")

    def test_clocks_are_read_from_what_nvidia_smi_prints(self):
        lines = ["1980, 2619, 41, 120.33, 97\n", "1755, 2619, 55, [N/A], 100\n", "1700, 2619, 56, 650.00, 100\n", "17"]
        self.assertEqual(stages.summary_of_clocks(lines)["clocks.sm"], {"min": 1700.0, "max": 1980.0})
        self.assertIsNone(stages.summary_of_clocks([]))


if __name__ == "__main__":
    unittest.main()
