"""Codes stored in planes: the same weights in another order of bits, recorded, read back, refused where they cannot be."""
import json
import shutil
import unittest

import checkpoints
from harness import MOE, Case, run, run_json


def planes(codes, bits):
    """The bytes of 128 codes, from the words of the layout: sign and magnitude, split into planes of 4, 2 and 1 bits."""
    top = 1 << (bits - 1)
    stored = [code - top if code >= top else (top - 1 - code) | top for code in codes]
    out, first = b"", 0
    for width in (8, 4, 2, 1):
        if bits & width == 0:
            continue
        part = [(s >> first) % (1 << width) for s in stored]
        if width == 8:
            out += bytes(part)
        elif width == 4:
            out += bytes(part[64 * h + i] | part[64 * h + 32 + i] << 4 for h in (0, 1) for i in range(32))
        elif width == 2:
            out += bytes(sum(part[32 * f + i] << 2 * f for f in range(4)) for i in range(32))
        else:
            out += bytes(sum(part[16 * c + i] << c for c in range(8)) for i in range(16))
        first += width
    return out


def wire(data, bits):
    """The codes of a wire stream."""
    stream = int.from_bytes(data, "big")
    count = len(data) * 8 // bits
    return [stream >> bits * (count - 1 - i) & (1 << bits) - 1 for i in range(count)]


class Layout(Case):
    def test_planes_hold_the_codes_of_the_wire(self):
        for bits in (2, 5, 7):
            a, b = self.scratch / f"wire{bits}", self.scratch / f"planes{bits}"
            run("quantize", MOE, a, "--bits", bits)
            run("quantize", MOE, b, "--bits", bits, "--layout", "planes")
            written, other = checkpoints.read_folder(a), checkpoints.read_folder(b)
            self.assertEqual(set(written), set(other))
            compared = 0
            for name, (dtype, shape, data) in written.items():
                self.assertEqual((dtype, shape), other[name][:2])
                if not name.endswith("__packed"):
                    self.assertTrue(data == other[name][2], name)
                    continue
                for at in range(0, min(len(data), 40 * 16 * bits), 16 * bits):
                    unit = data[at:at + 16 * bits]
                    self.assertEqual(planes(wire(unit, bits), bits), other[name][2][at:at + 16 * bits], (name, at))
                    compared += 1
            self.assertGreater(compared, 1000)
            difference = run_json("compare", a, b)
            self.assertEqual(difference["relative_mse"], 0)
            for folder in (a, b):
                run("dequantize", folder, self.scratch / ("back" + folder.name))
            self.same_folders(self.scratch / f"backwire{bits}", self.scratch / f"backplanes{bits}")

    def test_the_configuration_says_so_and_info_shows_it(self):
        run("quantize", MOE, self.scratch / "wire")
        run("quantize", MOE, self.out, "--layout", "planes")
        self.assertNotIn("layout", json.loads((self.scratch / "wire/polar_config.json").read_text()))
        config = json.loads((self.out / "polar_config.json").read_text())
        self.assertEqual(config["layout"], "planes")
        self.assertIn("planes, block 128", run("info", self.out)[0])
        self.assertIn("wire, block 128", run("info", self.scratch / "wire")[0])
        self.assertEqual(run_json("info", self.out)["dialect"], "hlwq")
        # The same command goes on; with another layout it is another one.
        run("quantize", MOE, self.out, "--layout", "planes", "--resume")
        run("quantize", MOE, self.out, "--resume", code=2)

    def test_layouts_that_cannot_be(self):
        self.refused(2, "--layout planes", "polar-v5",
                     arguments=["quantize", MOE, self.out, "--layout", "planes", "--format", "polar-v5"])
        self.refused(2, "--layout", arguments=["quantize", MOE, self.out, "--layout", "tiles"])
        self.assertFalse(self.out.exists())
        run("quantize", MOE, self.out)
        path = self.out / "polar_config.json"
        config = json.loads(path.read_text())
        for layout, words in (("tiles", "expected wire or planes, found tiles"), (3, "expected a string, found 3")):
            path.write_text(json.dumps(config | {"layout": layout}))
            for command in ("info", "compare", "dequantize"):
                more = [] if command == "info" else [self.out if command == "compare" else self.scratch / "back"]
                self.refused(1, "polar_config.json: layout", words, arguments=[command, self.out, *more])


if __name__ == "__main__":
    unittest.main()
