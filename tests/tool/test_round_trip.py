"""Checkpoints through the program and back, looked at with readers of our own."""
import json
import math
import shutil
import struct
import unittest

import checkpoints
from harness import DENSE, MOE, Case, contents, run, run_json

LAYER = "model.language_model.layers.0."
KEPT = ["embed_tokens", "lm_head", "norm", "mlp.gate.", "shared_expert_gate", "in_proj_a", "in_proj_b", "A_log", "dt_bias",
        "conv1d", "mtp."]


def relative_mse(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b)) / sum(x * x for x in a)


class RoundTrip(Case):
    def test_published_format(self):
        result = run_json("quantize", MOE, self.out)
        source, written = checkpoints.read_folder(MOE), checkpoints.read_folder(self.out)
        matrices = {name[:-8] for name in written if name.endswith("__packed")}
        kept = {name for name in written if not name.endswith(("__packed", "__norms", "__meta"))}
        for name in kept:
            self.assertTrue(written[name] == source[name], name)
        for name in source:
            is_kept = any(word in name for word in KEPT)
            self.assertEqual(name in kept, is_kept, name)
            if is_kept:
                continue
            shape = source[name][1]
            slices = [name] if len(shape) == 2 else [
                name.replace(".experts.", f".experts.{e}.") + ".weight" for e in range(shape[0])]
            for matrix in slices:
                matrices.remove(matrix)
                rows, cols = shape[-2:]
                blocks = -(-cols // 128)
                self.assertEqual(written[matrix + "__packed"][:2], ("U8", [rows * blocks * 80]))
                self.assertEqual(written[matrix + "__norms"][:2], ("F16", [rows, blocks]))
                self.assertEqual(written[matrix + "__meta"][:2], ("I64", [5]))
                self.assertEqual(struct.unpack("<5q", written[matrix + "__meta"][2]),
                                 (rows, blocks, 128, rows * blocks * 128, cols))
        self.assertFalse(matrices)
        config = json.loads((self.out / "polar_config.json").read_text())
        self.assertEqual((config["format"], config["block_size"], config["codebook"]), ("hlwq-q5", 128, "legacy-a"))
        self.assertEqual((self.out / "config.json").read_bytes(), (MOE / "config.json").read_bytes())
        self.assertEqual(result["quantized_parameters"], 1064960)
        self.assertAlmostEqual(result["coverage"], 1064960 / 1326544)
        self.assertFalse([name for name in contents(self.out) if name.startswith(".")])

    def test_decoding_by_the_specification(self):
        run("quantize", MOE, self.out)
        run("dequantize", self.out, self.scratch / "back", "--dtype", "f32")
        source, written = checkpoints.read_folder(MOE), checkpoints.read_folder(self.out)
        back = checkpoints.read_folder(self.scratch / "back")
        for name, slice_of in ((LAYER + "mlp.shared_expert.down_proj.weight", None),
                               ("model.language_model.layers.3.self_attn.o_proj.weight", None),
                               (LAYER + "mlp.experts.gate_up_proj", 7)):
            dtype, shape, data = back[name]
            self.assertEqual((dtype, shape), ("F32", source[name][1]))
            rows, cols = shape[-2:]
            matrix = name if slice_of is None else name.replace(".experts.", f".experts.{slice_of}.") + ".weight"
            for row in (0, rows - 1):
                first = ((slice_of or 0) * rows + row) * cols
                restored = struct.unpack_from(f"<{cols}f", data, 4 * first)
                decoded = checkpoints.decode(written, matrix, row)
                for x, y in zip(restored, decoded):
                    self.assertTrue(math.isclose(x, y, rel_tol=1e-5, abs_tol=1e-6), (name, row, x, y))
                original = checkpoints.bf16_values(source[name][2][2 * first:2 * (first + cols)])
                self.assertLess(relative_mse(original, decoded), 0.006, (name, row))

    def test_source_names_and_fused_experts_come_back(self):
        for model in (MOE, DENSE):
            out, back = self.scratch / ("q" + model.name), self.scratch / ("b" + model.name)
            run("quantize", model, out)
            run("dequantize", out, back)
            source, restored = checkpoints.read_folder(model), checkpoints.read_folder(back)
            self.assertEqual({n: t[:2] for n, t in source.items()}, {n: t[:2] for n, t in restored.items()})
            self.assertFalse((back / "polar_config.json").exists())
            compared = run_json("compare", model, back)
            self.assertEqual((compared["missing_in_a"], compared["missing_in_b"]), ([], []))
            self.assertLess(compared["tensors"][0]["relative_mse"], 0.0025)

    def test_unfused_experts(self):
        run("quantize", MOE, self.out)
        run("dequantize", self.out, self.scratch / "fused")
        run("dequantize", self.out, self.scratch / "single", "--unfuse")
        run("dequantize", self.scratch / "fused", self.scratch / "split", "--unfuse")
        fused, single = (checkpoints.read_folder(self.scratch / name) for name in ("fused", "single"))
        split = checkpoints.read_folder(self.scratch / "split")
        self.assertEqual(single, {name: split[name] for name in single} | {
            name: tensor for name, tensor in single.items() if name.startswith("mtp.") and "experts" in name})
        dtype, (experts, rows, cols), data = fused[LAYER + "mlp.experts.gate_up_proj"]
        half = rows // 2 * cols * 2
        for e in (0, experts - 1):
            prefix = f"{LAYER}mlp.experts.{e}."
            self.assertEqual(single[prefix + "gate_proj.weight"], (dtype, [rows // 2, cols], data[2 * e * half:][:half]))
            self.assertEqual(single[prefix + "up_proj.weight"][2], data[(2 * e + 1) * half:][:half])
        for a, b in (("fused", "single"), ("single", "fused"), ("out", "single")):
            compared = run_json("compare", self.scratch / a, self.scratch / b)
            self.assertEqual((compared["missing_in_a"], compared["missing_in_b"]), ([], []), (a, b))
            self.assertLess(compared["relative_mse"], 1e-5)
        # Quantized again from single experts, the matrices are other ones of the same kind.
        run("quantize", self.scratch / "single", self.scratch / "again")
        self.assertIn(LAYER + "mlp.experts.3.up_proj.weight__packed", checkpoints.read_folder(self.scratch / "again"))
        run("dequantize", self.scratch / "again", self.scratch / "once more")
        self.assertEqual({n: t[:2] for n, t in single.items()},
                         {n: t[:2] for n, t in checkpoints.read_folder(self.scratch / "once more").items()})

    def test_both_formats_hold_the_same_weights(self):
        for bits in (2, 3, 4, 5, 6, 8):
            outs = [self.scratch / f"{form}{bits}" for form in ("hlwq", "polar-v5")]
            for form, out in zip(("hlwq", "polar-v5"), outs):
                run("quantize", DENSE, out, "--bits", bits, "--format", form, "--encoder", "nearest")
            # Not exactly: polar-v5 stores centroids divided by the root of the block, rounded.
            compared = run_json("compare", *outs)
            self.assertLess(compared["relative_mse"], 1e-13)
            self.assertEqual(compared["missing_in_a"] + compared["missing_in_b"], [])

    def test_polar_v5_keys(self):
        run("quantize", MOE, self.out, "--format", "polar-v5")
        written = checkpoints.read_folder(self.out)
        prefix = LAYER + "mlp.experts.5.down_proj"
        self.assertEqual(written[prefix + ".codes"][:2], ("U8", [64, 80]))
        self.assertEqual(written[prefix + ".norms"][:2], ("F16", [64, 1]))
        table = struct.unpack("<32f", written[prefix + ".ct_scaled"][2])
        for k, centroid in enumerate(checkpoints.TABLE_A5):
            self.assertTrue(math.isclose(table[k] * math.sqrt(128), centroid, rel_tol=1e-6))
        self.assertEqual(json.loads((self.out / "polar_config.json").read_text())["format"], "polar_engine_v5")
        self.assertEqual(run_json("info", self.out)["dialect"], "polar_v5")

    def test_plain_input_is_copied(self):
        run("dequantize", MOE, self.out, "--shard-size", "300kB")
        self.assertEqual(checkpoints.read_folder(MOE), checkpoints.read_folder(self.out))
        self.assertGreater(len(list(self.out.glob("model-*.safetensors"))), 5)

    def test_element_types_and_misaligned_tensors(self):
        values = [math.sin(k) for k in range(4 * 256)]
        bf16 = struct.pack(f"<{len(values)}I", *(struct.unpack("<I", struct.pack("<f", v))[0] >> 16 for v in values))
        tensors = {"odd": ("U8", [3], b"abc"), "position_ids": ("I64", [2, 2], bytes(32))}
        for name, form in (("F16", "e"), ("F32", "f"), ("F64", "d")):
            tensors[f"layers.0.{name}_proj.weight"] = (name, [4, 256], struct.pack(f"<{len(values)}{form}", *values))
        tensors["layers.0.BF16_proj.weight"] = ("BF16", [4, 256], struct.pack(
            f"<{len(values)}H", *struct.unpack(f"<{2 * len(values)}H", bf16)[0::2]))
        (self.scratch / "in").mkdir()
        checkpoints.write_file(self.scratch / "in/model.safetensors", tensors)
        result = run_json("quantize", self.scratch / "in", self.out)
        self.assertEqual(result["quantized_parameters"], 4 * 4 * 256)
        written = checkpoints.read_folder(self.out)
        self.assertEqual(written["odd"], tensors["odd"])
        self.assertEqual(written["position_ids"], tensors["position_ids"])
        compared = run_json("compare", self.scratch / "in", self.out)
        self.assertLess(compared["tensors"][0]["relative_mse"], 0.1)
        self.assertEqual([t["name"] for t in compared["tensors"] if t["max_abs"] == 0], ["odd", "position_ids"])

    def test_configuration_loses_its_quantization(self):
        run("quantize", MOE, self.out)
        config = json.loads((self.out / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "polar"}
        config["text_config"]["quantization_config"] = {"quant_method": "polar"}
        (self.out / "config.json").write_text(json.dumps(config))
        (self.out / "tokenizer.json").write_text("{}")
        (self.out / "additional_chat_templates").mkdir()
        (self.out / "additional_chat_templates/rag.jinja").write_text("x")
        run("dequantize", self.out, self.scratch / "back")
        self.assertEqual(json.loads((self.scratch / "back/config.json").read_text()),
                         json.loads((MOE / "config.json").read_text()))
        self.assertEqual((self.scratch / "back/tokenizer.json").read_text(), "{}")
        self.assertEqual((self.scratch / "back/additional_chat_templates/rag.jinja").read_text(), "x")

    def test_files_are_carried_over(self):
        shutil.copytree(MOE, self.scratch / "in")
        carried = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "chat_template.jinja",
                   "generation_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
                   "special_tokens_map.json", "added_tokens.json", "tokenizer.model", "LICENSE"]
        for name in carried:
            (self.scratch / "in" / name).write_text(name)
        (self.scratch / "in/README.md").write_text("about the BF16 model")
        _, remarks = run("quantize", self.scratch / "in", self.out)
        self.assertIn("README.md", remarks)
        for name in carried:
            self.assertEqual((self.out / name).read_text(), name)
        self.assertFalse((self.out / "README.md").exists())

    def test_json_fields(self):
        done = run_json("quantize", MOE, self.out, "--bits", 4)
        for field in ("format", "codebook", "parameters", "coverage", "bytes_before", "bytes", "bits_per_weight",
                      "relative_mse", "kinds", "peak_rss"):
            self.assertIn(field, done)
        info = run_json("info", self.out)
        self.assertEqual((info["dialect"], info["codebook"], info["bits"]), ("hlwq", "legacy-a", 4))
        self.assertEqual((info["parameters"], info["quantized_parameters"]), (1326544, 1064960))
        self.assertAlmostEqual(info["coverage"], 1064960 / 1326544)
        written = checkpoints.read_folder(self.out)
        self.assertEqual(info["bytes"], sum(len(data) for _, _, data in written.values()))
        weights = sum(len(data) for name, (_, _, data) in written.items() if name.endswith(("__packed", "__norms")))
        self.assertAlmostEqual(info["bits_per_weight"], 8 * weights / 1064960)
        for kind in info["kinds"]:
            self.assertLessEqual({"kind", "count", "parameters", "bits", "bytes"}, set(kind))
        self.assertEqual(sum(kind["parameters"] for kind in info["kinds"]), 1326544)
        compared = run_json("compare", MOE, self.out)
        worst = [tensor["relative_mse"] for tensor in compared["tensors"]]
        self.assertEqual(worst, sorted(worst, reverse=True))
        self.assertEqual(set(compared["tensors"][0]), {"name", "relative_mse", "cosine", "max_abs"})
        self.assertGreater(compared["cosine"], 0.99)
        # What the quantizer measured is what a comparison finds.
        experts = {t["name"]: t for t in compared["tensors"]}[LAYER + "mlp.experts.gate_up_proj"]["relative_mse"]
        measured = {k["kind"]: k for k in done["kinds"]}["experts.gate_up_proj"]["relative_mse"]
        self.assertTrue(math.isclose(experts, measured, rel_tol=0.05))

    def test_report_is_one_page(self):
        from xml.etree import ElementTree
        (self.scratch / "recipe").write_text("<no>&such = 3\nq_proj = 7\n")
        run("quantize", MOE, self.out, "--report", self.scratch / "page.html", "--recipe", self.scratch / "recipe")
        page = (self.scratch / "page.html").read_text()
        self.assertNotIn("http", page)
        body = ElementTree.fromstring(page[page.index("<body>"):page.index("</html>")])
        self.assertEqual(len(body.findall("svg")), 2)
        self.assertIn("experts.gate_up_proj", page)
        self.assertIn("line 2: q_proj", page)

    def test_comparison_of_unlike_folders(self):
        tensors = checkpoints.read_file(MOE / "model.safetensors")
        renamed = {name.replace("model.language_model.", "model."): tensor for name, tensor in tensors.items()}
        renamed["lm_head.weight"] = ("BF16", [256, 128], renamed["lm_head.weight"][2])
        (self.scratch / "in").mkdir()
        checkpoints.write_file(self.scratch / "in/model.safetensors", renamed)
        compared = run_json("compare", MOE, self.scratch / "in")
        self.assertIn(LAYER + "mlp.experts.gate_up_proj", compared["missing_in_b"])
        self.assertIn("model.layers.0.mlp.experts.gate_up_proj", compared["missing_in_a"])
        self.assertEqual(len(compared["missing_in_a"]), len(compared["missing_in_b"]))
        self.assertEqual(len(compared["different_shapes"]), 1)
        self.assertEqual(compared["relative_mse"], 0)

    def test_recipes_and_policies(self):
        (self.scratch / "recipe").write_text("down_proj = 3   # narrow\nlm_head = 8\nself_attn = keep\n")
        run("quantize", MOE, self.out, "--recipe", self.scratch / "recipe", "--bits", 6)
        config = json.loads((self.out / "polar_config.json").read_text())
        self.assertEqual(config["format"], "hlwq")
        layers = config["layers"]
        self.assertEqual(layers["lm_head"]["bits"], 8)
        self.assertEqual(layers[LAYER + "mlp.experts.0.down_proj"]["bits"], 3)
        self.assertEqual(layers[LAYER + "mlp.experts.0.gate_up_proj"]["bits"], 6)
        self.assertFalse([name for name in layers if "self_attn" in name])
        self.assertEqual(run_json("info", self.out)["codebook"], "legacy-a")
        run("dequantize", self.out, self.scratch / "back")
        package = run_json("quantize", MOE, self.scratch / "p", "--policy", "package", "--keep-unknown")
        self.assertIn("embed_tokens", [kind["kind"] for kind in package["kinds"] if kind["action"] == "quantize"])

    def test_bits_of_the_head(self):
        result = run_json("quantize", MOE, self.out, "--head-bits", 8)
        rules = {kind["kind"]: (kind["action"], kind["bits"], kind["reason"]) for kind in result["kinds"]}
        self.assertEqual(rules["lm_head"], ("quantize", 8, "--head-bits"))
        self.assertEqual(rules["embed_tokens"][0], "keep")
        self.assertEqual(rules["experts.down_proj"][1], 5)
        self.assertIn("--head-bits", run("quantize", MOE, self.scratch / "t", "--head-bits", 8)[0])
        kinds = {kind["kind"]: kind for kind in run_json("info", self.out)["kinds"]}
        rows, cols = checkpoints.read_folder(MOE)["lm_head.weight"][1]
        self.assertEqual((kinds["lm_head"]["bits"], kinds["lm_head"]["parameters"]), (8, rows * cols))
        written = checkpoints.read_folder(self.out)
        self.assertEqual(written["lm_head.weight__packed"][1], [rows * -(-cols // 128) * 128])
        # A line of a recipe stands above the option, the option above the policy.
        (self.scratch / "recipe").write_text("lm_head = 4\n")
        other = run_json("quantize", MOE, self.scratch / "r", "--head-bits", 8, "--recipe", self.scratch / "recipe")
        self.assertEqual([kind["bits"] for kind in other["kinds"] if kind["kind"] == "lm_head"], [4])
        self.refused(2, "--head-bits", arguments=["quantize", MOE, self.scratch / "n", "--head-bits", 9])

    def test_a_tied_embedding_is_the_head(self):
        tied = self.scratch / "tied"
        tied.mkdir()
        source = checkpoints.read_folder(MOE)
        del source["lm_head.weight"]
        checkpoints.write_file(tied / "model.safetensors", source)
        shutil.copy(MOE / "config.json", tied)
        result = run_json("quantize", tied, self.out, "--head-bits", 8)
        rules = {kind["kind"]: (kind["action"], kind["bits"]) for kind in result["kinds"]}
        self.assertEqual(rules["embed_tokens"], ("quantize", 8))
        self.assertIn("model.language_model.embed_tokens.weight__packed", checkpoints.read_folder(self.out))
        for name in [name for name in source if "embed_tokens" in name]:
            del source[name]
        checkpoints.write_file(tied / "model.safetensors", source)
        self.refused(1, "--head-bits", "lm_head", "none", arguments=["quantize", tied, self.scratch / "n", "--head-bits", 8])


if __name__ == "__main__":
    unittest.main()
