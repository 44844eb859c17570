#!/bin/sh
# Make a virtual environment that Loupe runs in, and install the system libraries it needs.
#
#   ./setup.sh [FOLDER] [EXTRAS]      default: .venv camera,openvino,trainer
#
# `make` calls this; nothing else needs to. As root it installs what is missing with apt-get;
# otherwise it stops with the one command to type.
set -eu
cd "$(dirname "$0")"
venv=${1:-.venv}
extras=${2:-camera,openvino,trainer}

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
stop() { printf 'set-up stopped: %s\n' "$*" >&2; exit 2; }

# Debian's and Ubuntu's packages, installed when root, named in one command when not.
need_packages() {
    command -v apt-get >/dev/null ||
        stop "this system has no apt-get; install what Debian calls: $*"
    [ "$(id -u)" -eq 0 ] ||
        stop "system libraries are missing; type this once, then run make again:
    sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
    say "installing $*"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

loads() { python3 -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null; }

missing=
python3 -c 'import ensurepip' 2>/dev/null || missing="python3 python3-venv"
# Open3D (the simulator) opens the first three even without a screen; librealsense the last.
loads libEGL.so.1 || missing="$missing libegl1"
loads libGL.so.1 || missing="$missing libgl1"
loads libX11.so.6 || missing="$missing libx11-6"
loads libusb-1.0.so.0 || missing="$missing libusb-1.0-0"
# shellcheck disable=SC2086  # a list of package names
[ -z "$missing" ] || need_packages $missing

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    stop "Loupe needs Python 3.10 or newer, and $(command -v python3) is $(python3 -V)"

say "installing Loupe [$extras] into $venv (some minutes the first time: 3.5 GB of packages)"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install -q --upgrade 'pip>=25.1' # the first to know dependency groups
# setuptools warns of every editable installation, in a block that looks like an error.
PYTHONWARNINGS='ignore:Editable installation' \
    "$venv/bin/python" -m pip install -q -e ".[$extras]" --group dev

# NVIDIA's bindings without the libraries behind them: tests hold our calls to TensorRT and CUDA
# against them. Not every platform has them, and nothing but those tests needs them.
while read -r name wheels; do
    rm -rf "$venv/bindings/$name"
    # shellcheck disable=SC2086  # a list of wheels
    "$venv/bin/python" -m pip install -q --no-deps --target "$venv/bindings/$name" $wheels </dev/null || {
        rm -rf "$venv/bindings/$name"
        say "no $wheels for this machine: what tests hold against it stays UNPROVED here"
    }
done <tests/edge/tensorrt/bindings.txt
touch "$venv/.ready"
say "ready"
