"""Power mode and clocks, read from files as a Jetson has them."""

from __future__ import annotations

from pathlib import Path

from loupe_edge.power import describe_power


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_jetson_tells_its_mode_and_clocks(tmp_path: Path) -> None:
    write(tmp_path / "var/lib/nvpmodel/status", "pmode:0002\n")
    write(
        tmp_path / "etc/nvpmodel.conf",
        "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=25W >\n",
    )
    for core, khz in (("cpu0", 729600), ("cpu1", 1984000)):
        cpufreq = tmp_path / "sys/devices/system/cpu" / core / "cpufreq"
        write(cpufreq / "scaling_cur_freq", f"{khz}\n")
        write(cpufreq / "scaling_max_freq", "1984000\n")
    write(tmp_path / "sys/class/devfreq/17000000.gpu/cur_freq", "918000000\n")
    write(tmp_path / "sys/class/devfreq/17000000.gpu/max_freq", "1173000000\n")
    write(tmp_path / "sys/class/devfreq/15340000.vic/cur_freq", "1999000000\n")
    assert describe_power(tmp_path) == {
        "power_mode": "25W",
        "cpu_mhz": 1984,
        "cpu_max_mhz": 1984,
        "gpu_mhz": 918,
        "gpu_max_mhz": 1173,
    }


def test_an_unnamed_mode_is_its_number(tmp_path: Path) -> None:
    write(tmp_path / "var/lib/nvpmodel/status", "pmode:0007\n")
    assert describe_power(tmp_path) == {"power_mode": "7"}


def test_what_the_platform_does_not_tell_is_absent(tmp_path: Path) -> None:
    write(tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "<unsupported>\n")
    assert describe_power(tmp_path) == {}
