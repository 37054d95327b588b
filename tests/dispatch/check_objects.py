"""check_objects.py ISA OBJECT...: what the linker may see of objects that were compiled for one instruction set.

Of two copies of a function the linker keeps one, whoever compiled it, and code that runs before main runs on every
processor. So each name that an object shares with others must carry the instruction set: `hlwq::v0_<isa>_...` or
another namespace of that name, or end in `_<isa>`. Data of hlwq (constant tables) is the same under all flags. NM may
name the program that lists symbols.
"""
import os
import re
import subprocess
import sys

isa, objects = sys.argv[1], sys.argv[2:]
tag = re.compile(rf"v\d+_{isa}_(highway|xsimd|scalar)_promised::|_{isa}$")
data = re.compile(r"hlwq::codebook_tables::\w+$")
# The address of a function of the compiler's library, and two calls of it: always the same instructions.
ground = {"DW.ref.__gxx_personality_v0", "__clang_call_terminate"}

count, bad = 0, []
for path in objects:
    for line in subprocess.run([os.environ.get("NM", "nm"), "-C", path], capture_output=True, text=True, check=True).stdout.splitlines():
        kind, name = line[17:].split(" ", 1)
        if kind in "Uwv":
            continue  # defined elsewhere
        if name.startswith(("_GLOBAL__sub_I_", "__cxx_global_var_init")):
            bad.append(f"{path}: code that runs before main: {name}")
        if kind.islower() and kind != "u":
            continue  # local
        count += 1
        if not tag.search(name) and not (kind in "uVR" and data.match(name)) and name not in ground:
            bad.append(f"{path}: {kind} {name}")
for line in bad:
    print("shared by all instruction sets:", line[:300])
if count == 0:
    sys.exit("no symbol was found: nothing was checked")
print(f"{count} symbols of {len(objects)} objects for {isa}, {len(bad)} that the linker could take from the wrong one")
sys.exit(1 if bad else 0)
