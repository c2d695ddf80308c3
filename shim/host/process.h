// Other processes, by descriptors that stay theirs whoever gets their number next.
#pragma once

#include <sys/types.h>

#include "host/failure.h"
#include "host/fd.h"

namespace membacking {

/// Another process, or none.
class Process {
 public:
  /// ESRCH: there is none; ENOSYS: Linux before 5.3.
  static Failure open(pid_t pid, Process& result);

  /// Readable once the process is dead.
  int fd() const { return fd_.get(); }
  bool isOpen() const { return fd_.isOpen(); }
  bool isDead() const;
  /// Kills it, if it is a child of this process; whether it is one.
  bool killChild() const;

 private:
  FileDescriptor fd_;
};

}  // namespace membacking
