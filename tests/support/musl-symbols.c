// Symbols of glibc that Debian's libstdc++ and libgcc ask for and musl lacks, so that a program for musl runs with those
// two. It takes the place of glibc's loader, which libstdc++ names. For tests on Debian alone: systems of musl's own
// have a libstdc++ of their own.

#define _GNU_SOURCE
#include <link.h>
#include <locale.h>
#include <stdint.h>
#include <sys/random.h>
#include <time.h>

char __libc_single_threaded;
unsigned __cpu_model[4];

int __cpu_indicator_init(void) { return 0; }

size_t __strftime_l(char* text, size_t size, const char* format, const struct tm* time, locale_t locale) {
  return strftime_l(text, size, format, time, locale);
}

uint32_t arc4random(void) {
  uint32_t value = 0;
  getrandom(&value, sizeof value, 0);
  return value;
}

// Destructors of a thread's variables: left out.
int __cxa_thread_atexit_impl(void (*destroy)(void*), void* object, void* library) { return 0; }

/// What libgcc's unwinder finds a function's frame by: <dlfcn.h> of glibc 2.35.
struct dl_find_object {
  unsigned long long flags;
  void* start;
  void* end;
  struct link_map* link_map;
  void* frames;
  unsigned long long reserved[7];
};

struct search {
  uintptr_t address;
  struct dl_find_object* found;
};

static int look(struct dl_phdr_info* object, size_t size, void* data) {
  const struct search* search = data;
  uintptr_t start = UINTPTR_MAX, end = 0, frames = 0;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr)* header = &object->dlpi_phdr[i];
    const uintptr_t at = object->dlpi_addr + header->p_vaddr;
    if (header->p_type == PT_GNU_EH_FRAME) frames = at;
    if (header->p_type != PT_LOAD) continue;
    if (at < start) start = at;
    if (at + header->p_memsz > end) end = at + header->p_memsz;
  }
  if (frames == 0 || search->address < start || search->address >= end) return 0;
  *search->found = (struct dl_find_object){.start = (void*)start, .end = (void*)end, .frames = (void*)frames};
  return 1;
}

int _dl_find_object(void* address, struct dl_find_object* found) {
  struct search search = {(uintptr_t)address, found};
  return dl_iterate_phdr(look, &search) ? 0 : -1;
}
