# Shared by the scripts: finds the repository, installs what is missing. Sourced, not run.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"

# What a build needs on Debian and Ubuntu; each library has its line in third_party/README.md.
build_packages="g++ cmake ninja-build pkg-config libdnnl-dev libhwy-dev libjpeg-dev libwebp-dev zlib1g-dev libdeflate-dev libstb-dev libonnx-dev libprotobuf-dev
  libxxhash-dev nlohmann-json3-dev libcli11-dev libcpp-httplib-dev libjs-chart.js libgtest-dev libgmock-dev"

fail() {
  echo "$(basename "$0"): $1" >&2
  exit "${2:-1}"
}

# Installs the packages that are missing, after listing them. $install = 0: only lists them.
install_packages() {
  local missing=() package
  for package in "$@"; do
    if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then missing+=("$package"); fi
  done
  if [ ${#missing[@]} = 0 ]; then return 0; fi
  if [ "${install:-1}" = 0 ]; then
    echo "would install: ${missing[*]}"
    return 0
  fi
  command -v apt-get >/dev/null || fail "no apt-get here: install what corresponds to ${missing[*]}, then run with --no-install"
  local sudo=""
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "these packages are missing, and there is no sudo: ${missing[*]}"
    sudo=sudo
  fi
  echo "installing: ${missing[*]}"
  # A fresh machine has no package lists yet; a stale one may name versions that are gone.
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" ||
    { $sudo apt-get -q update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}"; } ||
    fail "apt-get could not install ${missing[*]} (on Ubuntu, enable universe)"
}

# Prints whether the CUDA headers that the emulated device needs are there.
cuda_headers() {
  local folder
  for folder in "${CUDA_HOME:-/usr/local/cuda}/include" /usr/local/cuda*/include /usr/local/include /usr/include; do
    if [ -e "$folder/cuda_runtime.h" ]; then
      echo "$folder"
      return 0
    fi
  done
  return 1
}

# Configures and builds a preset; ccache is used where it is there.
build_preset() {
  local preset=$1
  shift
  mkdir -p build
  local launcher=() log=build/configure-$preset.log
  if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  cmake --preset "$preset" "${launcher[@]}" >"$log" 2>&1 ||
    { cat "$log" >&2; fail "configuring $preset failed"; }
  cmake --build --preset "$preset" --parallel "$(nproc)" "$@"
}

# peer_python FOLDER REQUIREMENT...: prints a Python that has what the arguments of pip name: PEER_PYTHON, else that of a
# virtual environment in FOLDER/venv, set up where it is missing.
peer_python() {
  local folder=$1
  shift
  if [ -n "${PEER_PYTHON:-}" ]; then
    echo "$PEER_PYTHON"
    return 0
  fi
  install_packages python3-venv >&2
  [ -x "$folder/venv/bin/python" ] || python3 -m venv "$folder/venv" >&2
  "$folder/venv/bin/pip" install -q "$@" >&2 || fail "pip could not install $*"
  echo "$folder/venv/bin/python"
}
