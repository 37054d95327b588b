"""Fails on weak functions of hlwq in the objects named that carry no tag of the instruction set.

The linker keeps one copy of a weak symbol, whoever compiled it. Code with loops therefore lives in hlwq::v0_<isa>_...;
what is left outside must be inlined away. Data (V of nm) is the same under every flag.
"""
import re
import subprocess
import sys

OURS = re.compile(r"_Z(GV|TV|TI|TS|TT)?Z?N[KVRO]*4hlwq")
TAG = re.compile(r"\d+v\d+_[a-z0-9_]+?_(throw|fatal)")
ALLOWED = re.compile(r"hlwq::(\w+_)?error::")  # the exception classes: a string and its destructor

symbols = set()
for line in subprocess.run(["nm", *sys.argv[1:]], capture_output=True, text=True, check=True).stdout.splitlines():
    parts = line.split()
    if len(parts) >= 2 and parts[-2] in "Ww" and OURS.match(parts[-1]):
        symbols.add(parts[-1])
if not symbols:
    sys.exit("no weak function of hlwq was found: nothing was checked")

untagged = sorted(name for name in symbols if not TAG.search(name))
readable = subprocess.run(["c++filt"], input="\n".join(untagged), capture_output=True, text=True, check=True).stdout
bad = [name for name in readable.splitlines() if not ALLOWED.match(name)]
for name in bad:
    print("weak and untagged:", name)
print(f"note: {len(symbols)} weak functions of hlwq, {len(bad)} that the linker could take from the wrong object")
sys.exit(1 if bad else 0)
