"""A folder of programs, libraries and scripts that tests cairn on a GPU machine without network, compiler or toolkit."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FOLDER = "cairn-gpu"
SANITIZER_PACKAGE = "nvidia-cuda-sanitizer-api"
# The C library and the loader belong to the machine where the bundle runs.
SYSTEM = re.compile(r"^(ld-linux.*|libc|libm|libdl|librt|libpthread|libresolv|libcuda)\.so")
# What cuDNN opens by name.
OPENED = ["libcudnn_*.so.*", "libcublas.so.*", "libcublasLt.so.*", "libnvrtc.so.*", "libnvrtc-builtins.so.*"]


def needed(files: list) -> dict:
    """soname -> file, of everything that the files are linked with."""
    found = {}
    for file in files:
        for line in subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout.splitlines():
            if "not found" in line:
                sys.exit(f"gpu-acceptance: {file.name} needs {line.split()[0]}, which is not here")
            match = re.match(r"\s*(\S+) => (/\S+)", line)
            if match and not SYSTEM.match(match[1]):
                found[match[1]] = pathlib.Path(match[2])
    return found


def sanitizer_folder(near: pathlib.Path) -> pathlib.Path | None:
    """Where the tool lies with its libraries; beside it are wrappers."""
    for library in near.rglob("libsanitizer-collection.so"):
        if (library.parent / "compute-sanitizer").is_file():
            return library.parent
    return None


def copy_sanitizer(to: pathlib.Path) -> str:
    """compute-sanitizer of this machine's toolkit, else from PyPI, into the folder. Returns what was done."""
    tool = shutil.which("compute-sanitizer")
    found = sanitizer_folder(pathlib.Path(tool).resolve().parent.parent) if tool else None
    with tempfile.TemporaryDirectory() as scratch:
        origin = f"from {found}"
        if not found:
            done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", scratch, SANITIZER_PACKAGE],
                                  capture_output=True, text=True)
            found, origin = sanitizer_folder(pathlib.Path(scratch)), f"from PyPI's {SANITIZER_PACKAGE}"
            if not found:
                return "left out: neither the toolkit nor pip has it (" + (done.stderr.strip().splitlines() or ["no reason"])[-1] + ")"
        shutil.copytree(found, to, ignore=shutil.ignore_patterns("docs", "x86"))
    return origin


def make(root: pathlib.Path, build: pathlib.Path, programs: list, target: pathlib.Path, facts: dict) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        top = pathlib.Path(scratch) / FOLDER
        for name in ("bin", "lib", "docs/gpu"):
            (top / name).mkdir(parents=True)
        own = sorted((build / "lib").glob("libcairn*.so"))
        files = [build / "bin" / p for p in programs]
        for file in files:
            shutil.copy2(file, top / "bin")
        libraries = needed(files + own)
        for file in own:
            shutil.copy2(file, top / "lib")
        for folder in {p.parent for name, p in libraries.items() if re.match(r"libcu(dnn|blas)", name)}:
            for pattern in OPENED:
                libraries |= {p.name: p for p in folder.glob(pattern) if p.name.count(".") == 2 + ("builtins" in p.name)}
        for name, file in libraries.items():
            if not (top / "lib" / name).exists():
                shutil.copy2(file.resolve(), top / "lib" / name)
        for file in ["scripts/gpu-acceptance", "bench/peers/models.py", *(f"bench/gpu/{p.name}" for p in (root / "bench/gpu").glob("*.py"))]:
            (top / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / file, top / file)
        if facts["preset"] == "cuda-emu":  # for a rehearsal elsewhere
            shutil.copytree(root / "kernels/emu/profiles", top / "share/cairn/profiles")
        facts["compute-sanitizer"] = copy_sanitizer(top / "sanitizer")
        (top / "BUNDLE.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        size = sum(p.stat().st_size for p in top.rglob("*") if p.is_file())
        partial = pathlib.Path(scratch) / ("bundle" + "".join(target.suffixes))
        subprocess.run(["tar", "-C", scratch, "-caf", partial, FOLDER], check=True)
        partial.replace(target)
    print(f"  {len(programs)} programs, {len(own)} libraries of cairn, {len(libraries)} others, {size / 1e6:.0f} MB; compute-sanitizer {facts['compute-sanitizer']}")
    print(f"gpu-acceptance: bundle written: {target} ({target.stat().st_size / 1e6:.0f} MB); there: tar -xf {target.name} && {FOLDER}/scripts/gpu-acceptance")
