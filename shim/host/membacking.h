// membacking.h: guest memory for native code of the same process, such as virtqueues in an addon of the monitor's own.
//
// There is nothing to link with. JavaScript hands over two numbers: `va.nativeInterface`, the address of the table of
// functions below, which stays for the life of the process, and `va.token`, which names one VA space. (Who has the
// loaded addon's file finds the table by its symbol membacking_interface_1, too.)
//
//     const membacking_interface *guest = (const membacking_interface *)(uintptr_t)address;
//     if (guest->version != MEMBACKING_VERSION) ...
//     membacking_memory *memory = guest->open(token);
//     membacking_result result = guest->read(memory, gpa, buffer, length);
//     if (result.error != MEMBACKING_OK) ... result.gpa ...
//
// Every function may be called from any thread, while any thread changes the map and guests run. None raises a signal,
// whatever the guest has made of its addresses: where memory is not there, the result says so, with the GPA.
#ifndef MEMBACKING_H
#define MEMBACKING_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEMBACKING_VERSION 1

// Guest memory of one VA space. It keeps the addresses reserved until it is closed.
typedef struct membacking_memory membacking_memory;
// Ranges that no change of the map takes away as long as the lock is held.
typedef struct membacking_lock membacking_lock;

typedef enum membacking_error {
  MEMBACKING_OK = 0,
  // Past the end of all that the VA space can have; of a lock, not in one stretch of it.
  MEMBACKING_OUTSIDE = -1,
  // Nothing is mapped there, or it may not be accessed.
  MEMBACKING_HOLE = -2,
  // A write to what may only be read.
  MEMBACKING_READ_ONLY = -3,
  // The file behind it ends before, or memory has failed.
  MEMBACKING_GONE = -4,
  // A compare-exchange at an address that is no multiple of its width, or of another width than 1, 2, 4, 8.
  MEMBACKING_MISALIGNED = -5,
  // A lock on what is being changed just now: try again.
  MEMBACKING_CHANGING = -6
} membacking_error;

typedef struct membacking_result {
  membacking_error error;
  // First GPA that cannot be accessed: all bytes before it are done.
  uint64_t gpa;
} membacking_result;

// A stretch of guest memory, as in a descriptor of a virtqueue.
typedef struct membacking_range {
  uint64_t gpa;
  uint64_t length;
} membacking_range;

typedef struct membacking_interface {
  // MEMBACKING_VERSION. A later one may have more functions at the end.
  uint32_t version;
  uint32_t size;

  // Opens the VA space of a token; NULL where there is none any more. Each is closed once.
  membacking_memory *(*open)(uint64_t token);
  void (*close)(membacking_memory *memory);

  // Copies, upwards.
  membacking_result (*read)(const membacking_memory *memory, uint64_t gpa, void *into, size_t length);
  membacking_result (*write)(const membacking_memory *memory, uint64_t gpa, const void *from, size_t length);
  // Copies of `count` ranges, one after the other, from or to a buffer that has room for all.
  membacking_result (*read_ranges)(const membacking_memory *memory, const membacking_range *ranges, size_t count,
                                   void *into);
  membacking_result (*write_ranges)(const membacking_memory *memory, const membacking_range *ranges, size_t count,
                                    const void *from);

  // Numbers of 1, 2, 4 or 8 bytes, little-endian; aligned ones are single-copy atomic.
  membacking_result (*load)(const membacking_memory *memory, uint64_t gpa, unsigned width, uint64_t *value);
  membacking_result (*store)(const membacking_memory *memory, uint64_t gpa, unsigned width, uint64_t value);
  // Stores `value` if `*expected` is there; `*expected` becomes what was there. Sequentially consistent.
  membacking_result (*compare_exchange)(const membacking_memory *memory, uint64_t gpa, unsigned width,
                                        uint64_t *expected, uint64_t value);

  // Locks ranges, each in one stretch of the VA space, to be read or also written. Meanwhile changes of the map that
  // would take them away are refused (LEASED with the holder's name), or wait (whenFree). `*lock` is set where the
  // result is MEMBACKING_OK, and unlocked once.
  membacking_result (*lock)(membacking_memory *memory, const membacking_range *ranges, size_t count, int is_write,
                            const char *holder, membacking_lock **lock);
  void (*unlock)(membacking_lock *lock);
  // Host address of a part of one locked range, good until unlock; NULL for what is not locked. A file that somebody
  // can still make shorter is touched with read and write alone: a plain access behind its end is a signal.
  void *(*translate)(const membacking_lock *lock, uint64_t gpa, uint64_t length);
} membacking_interface;

#ifdef __cplusplus
}
#endif

#endif
