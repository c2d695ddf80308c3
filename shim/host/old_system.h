// Old systems: the addon asks for no newer glibc than Node.js's own binaries do (2.28), wherever it is built. The build
// includes this file first in every unit.
//
// Symbols that newer systems have under several versions are asked for by the oldest; those that are only in newer
// systems have a stand-in in old_system.cc.
#pragma once

#include <features.h>

#ifdef __GLIBC__
#ifdef __x86_64__
#define OLDEST_GLIBC "GLIBC_2.2.5"
#else
#define OLDEST_GLIBC "GLIBC_2.17"  // AArch64
#endif
#define OLD_SYMBOL(name, version) __asm__(".symver " #name "," #name "@" version)
OLD_SYMBOL(pthread_create, OLDEST_GLIBC);
OLD_SYMBOL(pthread_detach, OLDEST_GLIBC);
OLD_SYMBOL(pthread_join, OLDEST_GLIBC);
OLD_SYMBOL(pthread_kill, OLDEST_GLIBC);
OLD_SYMBOL(pthread_mutex_trylock, OLDEST_GLIBC);
OLD_SYMBOL(pthread_once, OLDEST_GLIBC);
OLD_SYMBOL(pthread_rwlock_rdlock, OLDEST_GLIBC);
OLD_SYMBOL(pthread_rwlock_unlock, OLDEST_GLIBC);
OLD_SYMBOL(pthread_rwlock_wrlock, OLDEST_GLIBC);
OLD_SYMBOL(pthread_sigmask, OLDEST_GLIBC);
// std::condition_variable::wait
OLD_SYMBOL(_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE, "GLIBCXX_3.4.11");
#undef OLD_SYMBOL
#undef OLDEST_GLIBC
#endif
