// musl: cross-building with the headers of Debian's libstdc++, which was configured for glibc. The build includes this
// file first in every unit for musl, so that those headers ask for nothing that musl lacks. On a system of musl's own
// it is not needed.
#pragma once

#define __GLIBC_PREREQ(major, minor) 0
#define __locale_t locale_t
// Threads are always there. By default it would find out by a symbol that only glibc has.
#define _GLIBCXX_GTHREAD_USE_WEAK 0

#include <bits/c++config.h>
#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK
#undef _GLIBCXX_USE_PTHREAD_RWLOCK_CLOCKLOCK
