# Compiles Python sources for kraftwerk's agent, as a user who reaches no site's files. On its input each source comes as its length,
# four bytes with the lowest last, and its bytes; on its output the byte code in the same form, no bytes where there is none. The
# first answer is how the interpreter names its byte code: cpython-311.
#
#   compile.py MEMORY_BYTES
#
# The byte code is of the unchecked-hash kind: a release never changes, so Python need not look at the source's date.
# See PEP 552, and _code_to_hash_pyc in CPython's Lib/importlib/_bootstrap_external.py.
import _frozen_importlib_external as external
import _imp
import resource
import struct
import sys

# A source may be made to take more than there is: of memory, time, processes, files.
for limit, most in (
    (resource.RLIMIT_AS, int(sys.argv[1])),
    (resource.RLIMIT_CPU, 600),
    (resource.RLIMIT_NPROC, 0),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(limit, (most, most))

source_in, code_out = sys.stdin.buffer, sys.stdout.buffer
MAGIC = int.from_bytes(external.MAGIC_NUMBER, "little")


def answer(data):
    code_out.write(struct.pack(">I", len(data)))
    code_out.write(data)
    code_out.flush()


def compiled(source):
    try:
        code = compile(source, "<kraftwerk>", "exec", dont_inherit=True)
        return external._code_to_hash_pyc(code, _imp.source_hash(MAGIC, source), False)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        # It is the program's own affair: the file may be for another Python.
        return b""


answer(sys.implementation.cache_tag.encode())
while len(head := source_in.read(4)) == 4:
    answer(compiled(source_in.read(struct.unpack(">I", head)[0])))
