"""The version stands in config.hpp; whoever repeats it must agree."""
import json
import re
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[2]
numbers = re.findall(r"^#define HLWQ_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", (root / "include/hlwq/config.hpp").read_text(), re.M)
version = ".".join(numbers)


def find(path, pattern):
    match = re.search(pattern, (root / path).read_text(), re.M)
    return match[1] if match else "nothing"


found = {
    "vcpkg-ports/hlwq/vcpkg.json": json.loads((root / "vcpkg-ports/hlwq/vcpkg.json").read_text())["version"],
    "CHANGELOG.md": find("CHANGELOG.md", r"^## \[?(\d+\.\d+\.\d+)"),
    "CMake (build/package)": find("build/package/with space/prefix/share/cmake/hlwq/hlwqConfigVersion.cmake", r'^set\(PACKAGE_VERSION "(.*)"\)'),
    "pkg-config (build/package)": find("build/package/with space/prefix/share/pkgconfig/hlwq.pc", r"^Version: (.*)$"),
}
wrong = {where: what for where, what in found.items() if what != version}
for where, what in wrong.items():
    print(f"version of {where}: expected {version}, found {what}")
# Conan and CMake read config.hpp themselves.
for path in ("conanfile.py", "CMakeLists.txt"):
    if "HLWQ_VERSION_" not in (root / path).read_text():
        wrong[path] = True
        print(f"{path} does not read the version from config.hpp")
sys.exit(1 if wrong else 0)
