// Stand-ins for what old systems lack. See old_system.h.

#include "host/old_system.h"

#ifdef __GLIBC__
#ifdef __x86_64__
#define JUMP "jmp abort@plt"
#else
#define JUMP "b abort"  // AArch64
#endif

// Flag of glibc 2.32 and later that shared_ptr reads: 0, as there may be several threads. Hidden, so that no other
// library gets it.
__asm__(
    ".pushsection .rodata\n"
    ".globl __libc_single_threaded\n"
    ".hidden __libc_single_threaded\n"
    ".type __libc_single_threaded, %object\n"
    ".size __libc_single_threaded, 1\n"
    "__libc_single_threaded: .byte 0\n"
    ".popsection\n");

// std::__throw_bad_array_new_length of libstdc++ 11 and later: reached only by lengths that no caller of the shim can
// ask for, so that it ends the process.
__asm__(
    ".pushsection .text\n"
    ".globl _ZSt28__throw_bad_array_new_lengthv\n"
    ".hidden _ZSt28__throw_bad_array_new_lengthv\n"
    ".type _ZSt28__throw_bad_array_new_lengthv, %function\n"
    "_ZSt28__throw_bad_array_new_lengthv: " JUMP "\n"
    ".popsection\n");
#undef JUMP
#endif
