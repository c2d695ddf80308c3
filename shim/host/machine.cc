// The machine: userfaultfd, PAGEMAP_SCAN and protection keys, each tried and given back.

#include "host/machine.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "host/pagemap.h"
#include "host/userfaultfd.h"

namespace membacking {
namespace {

void askUserfaultfd(MachineAnswers& answers) {
  Userfaultfd opened;
  answers.userfaultfdError = openUserfaultfd(opened).error;
  answers.isUserModeOnly = opened.isUserModeOnly;
  if (!opened.fd.isOpen()) return;
  uffdio_api api = {};
  api.api = UFFD_API;
  answers.userfaultfdError = ::ioctl(opened.fd.get(), UFFDIO_API, &api) < 0 ? errno : 0;
  answers.userfaultfdFeatures = api.features;
}

int askPagemapScan() {
  Pagemap pagemap;
  if (const Failure failure = Pagemap::open(pagemap)) return failure.error;
  PageRegion region = {};
  ScanArgument scan = {};
  scan.end = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  scan.returnedCategories = kPageIsPresent;
  // SAFETY: the kernel writes at most `regionCount` regions there.
  scan.regions = reinterpret_cast<uint64_t>(&region);
  scan.regionCount = 1;
  return scanPagemap(pagemap.fd(), scan) < 0 ? errno : 0;
}

int askProtectionKeys() {
  const auto key = ::syscall(SYS_pkey_alloc, 0, 0);
  if (key < 0) return errno;
  ::syscall(SYS_pkey_free, key);
  return 0;
}

}  // namespace

MachineAnswers askMachine() {
  MachineAnswers answers;
  askUserfaultfd(answers);
  answers.pagemapScanError = askPagemapScan();
  answers.protectionKeysError = askProtectionKeys();
  return answers;
}

}  // namespace membacking
