# SPDX-License-Identifier: BSD-2-Clause
"""Runs a command in which io_uring is forbidden: no_uring.py ERRNO COMMAND...

The filter is written by hand in classic BPF so that no library is needed; x86-64 and arm64 have the
same numbers for these three calls.
"""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LD_W_ABS, JEQ_K, RET_K = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
CALLS = (425, 426, 427)  # io_uring_setup, io_uring_enter, io_uring_register


def forbid(errno):
    program = [(LD_W_ABS, 0, 0, 0)]  # seccomp_data.nr
    for i, nr in enumerate(CALLS):
        program.append((JEQ_K, len(CALLS) - i, 0, nr))
    program += [(RET_K, 0, 0, ALLOW), (RET_K, 0, 0, ERRNO | errno)]
    code = b"".join(struct.pack("HBBI", *x) for x in program)
    room = ctypes.create_string_buffer(code, len(code))

    class Prog(ctypes.Structure):
        _fields_ = [("n", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    prog = Prog(len(program), ctypes.addressof(room))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
            libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(prog), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    forbid(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
