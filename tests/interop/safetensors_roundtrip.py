"""Files of the `safetensors` package from PyPI are read by ours, and ours by it.

    python3 -m venv scratch && scratch/bin/pip install safetensors numpy
    scratch/bin/python tests/interop/safetensors_roundtrip.py [--cxx g++]

Compiles a small program against include/ in a temporary folder. Needs nlohmann_json.
"""
import argparse
import pathlib
import subprocess
import tempfile

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Copies a file tensor by tensor and prints what it read.
PROGRAM = r"""
#include "hlwq/io/safetensors_writer.hpp"
#include <cstdio>
int main(int, char** argv) {
    const hlwq::safetensors::reader in{std::filesystem::path(argv[1])};
    std::vector<hlwq::safetensors::planned_tensor> planned;
    for (const auto& t : in.tensors()) {
        hlwq::io::xxh64 sum;
        sum.update(t.bytes);
        std::printf("%s %s %016llx\n", t.name.c_str(), hlwq::safetensors::describe(t.type, t.shape).c_str(),
                    static_cast<unsigned long long>(sum.digest()));
        planned.push_back({t.name, t.type, t.shape});
    }
    hlwq::safetensors::writer out(argv[2], planned, in.metadata());
    for (const auto& t : in.tensors()) out.append(t.name, t.bytes);
    out.finish();
}
"""

TYPES = {"BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "F16": np.float16,
         "U32": np.uint32, "I32": np.int32, "F32": np.float32, "U64": np.uint64, "I64": np.int64, "F64": np.float64}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cxx", default="g++")
    cxx = parser.parse_args().cxx
    random = np.random.default_rng(1)
    tensors = {}
    for name, kind in TYPES.items():
        for label, shape in {"matrix": (3, 5), "scalar": (), "empty": (4, 0)}.items():
            tensors[f"{label}.{name}"] = np.asarray(random.integers(0, 2, shape)).astype(kind)
    tensors["name with \"quotes\" and 名"] = np.arange(7, dtype=np.uint8)
    metadata = {"format": "np", "note": "tab\tand ü"}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "copy.cpp").write_text(PROGRAM)
        subprocess.run([cxx, "-std=c++20", "-O1", f"-I{ROOT / 'include'}", folder / "copy.cpp", "-o", folder / "copy"],
                       check=True)
        save_file(tensors, folder / "theirs.safetensors", metadata=metadata)
        read = subprocess.run([folder / "copy", folder / "theirs.safetensors", folder / "ours.safetensors"], check=True,
                              capture_output=True, text=True).stdout.splitlines()
        assert len(read) == len(tensors), read
        for name, kind in TYPES.items():
            assert any(line.startswith(f"matrix.{name} {name} [3, 5] ") for line in read), name
        back = load_file(folder / "ours.safetensors")
        assert back.keys() == tensors.keys()
        for name, value in tensors.items():
            assert back[name].dtype == value.dtype and back[name].shape == value.shape, name
            assert back[name].tobytes() == value.tobytes(), name
        with safetensors.safe_open(folder / "ours.safetensors", "np") as opened:
            assert opened.metadata() == metadata, opened.metadata()
        print(f"safetensors {safetensors.__version__}: {len(tensors)} tensors, both ways, byte for byte")


if __name__ == "__main__":
    main()
