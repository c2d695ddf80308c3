// The baseline of the benchmarks: the same system calls and copies as plain loops, without any of this package.
// An addon, so that both sides run in one process, on the same memory, in turns. Never shipped.
//
// It trusts its caller: addresses are this process's own, and stay mapped during a call.

#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <napi.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kPageSize = 4096;
constexpr int kReadWrite = PROT_READ | PROT_WRITE;

uint64_t wide(const Napi::Value& value) {
  if (value.IsNumber()) return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
  bool lossless;
  return value.As<Napi::BigInt>().Uint64Value(&lossless);
}

int number(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

void must(Napi::Env env, bool isDone, const char* call) {
  if (!isDone) throw Napi::Error::New(env, std::string(call) + ": " + std::strerror(errno));
}

/// One piece of memory: what is to be where.
struct Piece {
  uint64_t hva;
  uint64_t length;
  uint64_t offset;
};

/// A BigUint64Array of triples.
struct Pieces {
  explicit Pieces(const Napi::Value& value) {
    auto array = value.As<Napi::BigUint64Array>();
    first = reinterpret_cast<const Piece*>(array.Data());
    count = array.ElementLength() / 3;
  }
  const Piece* begin() const { return first; }
  const Piece* end() const { return first + count; }

  const Piece* first;
  size_t count;
};

bool mapShared(const Piece& piece, int fd) {
  return mmap(reinterpret_cast<void*>(piece.hva), piece.length, kReadWrite, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd,
              static_cast<off_t>(piece.offset)) != MAP_FAILED;
}

/// empty(): what any call costs.
void empty(const Napi::CallbackInfo&) {}

/// remap(fd, pieces): maps each piece, over whatever is there.
void remap(const Napi::CallbackInfo& info) {
  const int fd = number(info[0]);
  for (const Piece& piece : Pieces(info[1])) must(info.Env(), mapShared(piece, fd), "mmap");
}

/// clear(pieces): maps nothing over each piece.
void clear(const Napi::CallbackInfo& info) {
  for (const Piece& piece : Pieces(info[0])) {
    void* at = reinterpret_cast<void*>(piece.hva);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    must(info.Env(), mmap(at, piece.length, PROT_NONE, flags, -1, 0) != MAP_FAILED, "mmap");
  }
}

/// punch(fd, pieces): gives each piece of the file back to the machine.
void punch(const Napi::CallbackInfo& info) {
  const int fd = number(info[0]);
  for (const Piece& piece : Pieces(info[1])) {
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const auto [offset, length] = std::pair(static_cast<off_t>(piece.offset), static_cast<off_t>(piece.length));
    must(info.Env(), fallocate(fd, mode, offset, length) == 0, "fallocate");
  }
}

/// touch(pieces, pages): writes to the first pages of each.
void touch(const Napi::CallbackInfo& info) {
  const uint64_t pages = wide(info[1]);
  for (const Piece& piece : Pieces(info[0])) {
    for (uint64_t page = 0; page < pages; page++) *reinterpret_cast<volatile char*>(piece.hva + page * kPageSize) = 1;
  }
}

/// struct page_region and struct pm_scan_arg of linux/fs.h, and what is asked by them.
struct PageRegion {
  uint64_t start, end, categories;
};
struct Scan {
  uint64_t size, flags, start, end, walkEnd, regions, regionCount, mostPages, inverted, required, any, returned;
};
constexpr unsigned long kScanPagemap = _IOWR('f', 16, Scan);
constexpr uint64_t kWritten = 1 << 1;
constexpr uint64_t kProtectAndCheck = 3;

/// Bytes written since the last call, which are protected again.
uint64_t takeWritten(Napi::Env env, const Piece& piece) {
  static const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  static PageRegion regions[4096];
  uint64_t bytes = 0;
  Scan scan = {sizeof scan, kProtectAndCheck, piece.hva, piece.hva + piece.length, 0, reinterpret_cast<uint64_t>(regions),
               std::size(regions), 0, 0, kWritten, 0, kWritten};
  while (scan.start != scan.end) {
    const int count = ioctl(pagemap, kScanPagemap, &scan);
    must(env, count >= 0, "PAGEMAP_SCAN");
    for (int i = 0; i < count; i++) bytes += regions[i].end - regions[i].start;
    scan.start = scan.walkEnd;
  }
  return bytes;
}

/// watch(pieces): write-protects them, asynchronously, for good.
void watch(const Napi::CallbackInfo& info) {
  constexpr uint64_t kFeatures = 1 << 0 | 1 << 12 | 1 << 13 | 1 << 15;
  const int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC));
  uffdio_api api = {UFFD_API, kFeatures, 0};
  must(info.Env(), fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0, "UFFDIO_API");
  for (const Piece& piece : Pieces(info[0])) {
    uffdio_register registration = {{piece.hva, piece.length}, UFFDIO_REGISTER_MODE_WP, 0};
    must(info.Env(), ioctl(fd, UFFDIO_REGISTER, &registration) == 0, "UFFDIO_REGISTER");
    takeWritten(info.Env(), piece);
  }
}

/// collect(pieces): finds the bytes written in them since they were asked for last.
void collect(const Napi::CallbackInfo& info) {
  uint64_t bytes = 0;
  for (const Piece& piece : Pieces(info[0])) bytes += takeWritten(info.Env(), piece);
  must(info.Env(), bytes % kPageSize == 0, "PAGEMAP_SCAN");
}

/// Writes all of a piece to its offset in a file.
bool writePiece(int fd, const Piece& piece) {
  for (uint64_t done = 0; done < piece.length;) {
    const auto* bytes = reinterpret_cast<const void*>(piece.hva + done);
    const ssize_t count = pwrite(fd, bytes, piece.length - done, static_cast<off_t>(piece.offset + done));
    if (count < 0) return false;
    done += static_cast<uint64_t>(count);
  }
  return true;
}

/// writePages(path, bytes, pieces): what anybody does who wants the old file or the new one, whatever happens: a sparse
/// file with these pages at their offsets, under another name, synced, renamed.
void writePages(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const std::string draft = path + ".new";
  const int fd = open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  must(env, fd >= 0 && ftruncate(fd, static_cast<off_t>(wide(info[1]))) == 0, "ftruncate");
  for (const Piece& piece : Pieces(info[2])) must(env, writePiece(fd, piece), "pwrite");
  must(env, fsync(fd) == 0 && close(fd) == 0, "fsync");
  must(env, rename(draft.c_str(), path.c_str()) == 0, "rename");
}

/// The bare handler of faults: one thread, one page at a time, from a file of which the memory is an image. Without a
/// file: of first writes, which are let through.
struct FaultServer {
  int uffd;
  int file;
  int end[2];
  uint64_t hva;
  uint64_t bytes;
  std::thread thread;

  void serve() {
    prctl(PR_SET_NAME, "bare-page");
    uint8_t page[kPageSize];
    pollfd watched[] = {{uffd, POLLIN, 0}, {end[0], POLLIN, 0}};
    while (poll(watched, 2, -1) > 0 && watched[1].revents == 0) {
      uffd_msg message;
      if (read(uffd, &message, sizeof message) != sizeof message) continue;
      const uint64_t address = message.arg.pagefault.address & ~(kPageSize - 1);
      if (file < 0) {
        setProtected(address, kPageSize, 0);
        continue;
      }
      if (pread(file, page, kPageSize, static_cast<off_t>(address - hva)) != static_cast<ssize_t>(kPageSize)) return;
      uffdio_copy copied = {address, reinterpret_cast<uint64_t>(page), kPageSize, 0, 0};
      ioctl(uffd, UFFDIO_COPY, &copied);
    }
  }

  bool setProtected(uint64_t address, uint64_t length, uint64_t mode) const {
    uffdio_writeprotect change = {{address, length}, mode};
    return ioctl(uffd, UFFDIO_WRITEPROTECT, &change) == 0;
  }
};
FaultServer* server = nullptr;

/// serveFaults(fd, bytes): the address of new memory, whose pages a bare handler copies from a file; without one (-1),
/// it lets first writes through, after each protectFaults().
Napi::Value serveFaults(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  server = new FaultServer{};
  server->file = number(info[0]);
  server->bytes = wide(info[1]);
  server->uffd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  constexpr uint64_t kWriteFeatures = 1 << 0 | 1 << 12;
  const bool isOfWrites = server->file < 0;
  uffdio_api api = {UFFD_API, isOfWrites ? kWriteFeatures : 0, 0};
  must(env, server->uffd >= 0 && ioctl(server->uffd, UFFDIO_API, &api) == 0, "UFFDIO_API");
  const int kind = isOfWrites ? MAP_SHARED : MAP_PRIVATE;
  void* memory = mmap(nullptr, server->bytes, kReadWrite, kind | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  must(env, memory != MAP_FAILED && pipe(server->end) == 0, "mmap");
  server->hva = reinterpret_cast<uint64_t>(memory);
  const uint64_t mode = isOfWrites ? UFFDIO_REGISTER_MODE_WP : UFFDIO_REGISTER_MODE_MISSING;
  uffdio_register registration = {{server->hva, server->bytes}, mode, 0};
  must(env, ioctl(server->uffd, UFFDIO_REGISTER, &registration) == 0, "UFFDIO_REGISTER");
  server->thread = std::thread([] { server->serve(); });
  return Napi::BigInt::New(env, server->hva);
}

/// protectFaults(): has each first write to the memory wait for the handler again.
void protectFaults(const Napi::CallbackInfo& info) {
  const bool isDone = server->setProtected(server->hva, server->bytes, UFFDIO_WRITEPROTECT_MODE_WP);
  must(info.Env(), isDone, "UFFDIO_WRITEPROTECT");
}

/// endFaults(): ends the handler, and the memory.
void endFaults(const Napi::CallbackInfo& info) {
  must(info.Env(), write(server->end[1], "", 1) == 1, "write");
  server->thread.join();
  munmap(reinterpret_cast<void*>(server->hva), server->bytes);
  for (const int fd : {server->uffd, server->end[0], server->end[1]}) close(fd);
  delete server;
}

/// protect(pieces): gives each piece the access (PROT_*) that stands in the place of its offset.
void protect(const Napi::CallbackInfo& info) {
  for (const Piece& piece : Pieces(info[0])) {
    auto* memory = reinterpret_cast<void*>(piece.hva);
    must(info.Env(), mprotect(memory, piece.length, static_cast<int>(piece.offset)) == 0, "mprotect");
  }
}

/// copy(hva, bytes, length, gpas: Float64Array, isWrite): one memcpy for each GPA.
void copy(const Napi::CallbackInfo& info) {
  const uint64_t hva = wide(info[0]);
  uint8_t* bytes = info[1].As<Napi::Uint8Array>().Data();
  const size_t length = wide(info[2]);
  auto gpas = info[3].As<Napi::Float64Array>();
  const bool isWrite = info[4].As<Napi::Boolean>();
  for (size_t i = 0; i < gpas.ElementLength(); i++) {
    auto* memory = reinterpret_cast<uint8_t*>(hva + static_cast<uint64_t>(gpas[i]));
    if (isWrite) {
      std::memcpy(memory, bytes, length);
    } else {
      std::memcpy(bytes, memory, length);
    }
  }
}

bool setSlot(int vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, uint64_t hva) {
  kvm_userspace_memory_region region = {slot, flags, gpa, size, hva};
  return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == 0;
}

/// flip(vm, slot, shown, isReadOnly, count): makes a slot read-only or writable, and back, in turns. The offset of the
/// piece that it shows is its GPA.
void flip(const Napi::CallbackInfo& info) {
  const int vm = number(info[0]);
  const auto slot = static_cast<uint32_t>(number(info[1]));
  const Pieces shown(info[2]);
  const auto [hva, size, gpa] = *shown.begin();
  bool isReadOnly = info[3].ToBoolean();
  const int count = number(info[4]);
  for (int i = 0; i < count; i++, isReadOnly = !isReadOnly) {
    must(info.Env(), setSlot(vm, slot, 0, gpa, 0, hva), "KVM_SET_USER_MEMORY_REGION");
    must(info.Env(), mprotect(reinterpret_cast<void*>(hva), size, isReadOnly ? PROT_READ : kReadWrite) == 0, "mprotect");
    must(info.Env(), setSlot(vm, slot, isReadOnly ? KVM_MEM_READONLY : 0, gpa, size, hva), "KVM_SET_USER_MEMORY_REGION");
  }
}

/// logWrites(vm, slot, size, hva): KVM notes which pages of a slot at GPA 0 are written, from now on.
void logWrites(const Napi::CallbackInfo& info) {
  const auto slot = static_cast<uint32_t>(number(info[1]));
  const bool isDone = setSlot(number(info[0]), slot, KVM_MEM_LOG_DIRTY_PAGES, 0, wide(info[2]), wide(info[3]));
  must(info.Env(), isDone, "KVM_SET_USER_MEMORY_REGION");
}

/// takeLog(vm, slot, pages): takes what it has noted, which begins anew.
void takeLog(const Napi::CallbackInfo& info) {
  std::vector<uint64_t> bitmap(wide(info[2]) / 64 + 1);
  kvm_dirty_log log = {};
  log.slot = static_cast<uint32_t>(number(info[1]));
  log.dirty_bitmap = bitmap.data();
  must(info.Env(), ioctl(number(info[0]), KVM_GET_DIRTY_LOG, &log) == 0, "KVM_GET_DIRTY_LOG");
}

/// build(vm, reserved, bytes, pieces, slots): a memfd of `bytes`, shown in pieces of a reservation, each slot (GPA,
/// length, GPA) given to the VM; and everything taken back. `hva` of a piece is from the start of the reservation.
void build(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int vm = number(info[0]);
  const uint64_t reserved = wide(info[1]), bytes = wide(info[2]);
  const Pieces pieces(info[3]), slots(info[4]);
  const int fd = memfd_create("bare", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  must(env, fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0, "memfd_create");
  must(env, fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0, "F_ADD_SEALS");
  void* base = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  must(env, base != MAP_FAILED, "mmap");
  const auto start = reinterpret_cast<uint64_t>(base);
  for (const Piece& piece : pieces) must(env, mapShared({start + piece.hva, piece.length, piece.offset}, fd), "mmap");
  uint32_t slot = 0;
  for (const Piece& piece : slots) {
    must(env, setSlot(vm, slot++, 0, piece.offset, piece.length, start + piece.hva), "KVM_SET_USER_MEMORY_REGION");
  }
  while (slot-- > 0) must(env, setSlot(vm, slot, 0, 0, 0, 0), "KVM_SET_USER_MEMORY_REGION");
  for (const Piece& piece : pieces) {
    mmap(reinterpret_cast<void*>(start + piece.hva), piece.length, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  }
  munmap(base, reserved);
  close(fd);
}

/// exits(vcpu, kvmRunSize, count): that many exits of a guest that only asks, answered with nothing.
void exits(const Napi::CallbackInfo& info) {
  const int vcpu = number(info[0]), count = number(info[2]);
  const size_t size = wide(info[1]);
  void* mapped = mmap(nullptr, size, kReadWrite, MAP_SHARED, vcpu, 0);
  must(info.Env(), mapped != MAP_FAILED, "mmap");
  auto* run = static_cast<kvm_run*>(mapped);
  run->immediate_exit = 0;
  uint32_t sum = 0;
  for (int i = 0; i < count; i++) {
    must(info.Env(), ioctl(vcpu, KVM_RUN, 0) == 0, "KVM_RUN");
    if (run->exit_reason == KVM_EXIT_IO) {
      uint8_t* data = static_cast<uint8_t*>(mapped) + run->io.data_offset;
      if (run->io.direction == KVM_EXIT_IO_IN) {
        std::memcpy(data, &sum, run->io.size);
      } else {
        std::memcpy(&sum, data, run->io.size);
      }
    } else if (run->exit_reason == KVM_EXIT_MMIO) {
      if (run->mmio.is_write) {
        std::memcpy(&sum, run->mmio.data, 4);
      } else {
        std::memcpy(run->mmio.data, &sum, 4);
      }
    }
  }
  munmap(mapped, size);
}

/// Processes that have a mapping each, by the sockets on which they are told to change it.
struct Follower {
  int socket;
  pid_t process;
};
std::vector<Follower> followers;

/// Changes the protection of a page for each message, and says so.
[[noreturn]] void follow(int socket) {
  auto* memory = static_cast<char*>(mmap(nullptr, 2 * kPageSize, kReadWrite, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  memory[kPageSize] = 1;
  char bytes[256];
  for (int access = PROT_NONE;; access ^= kReadWrite) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    iovec part = {bytes, sizeof bytes};
    msghdr message = {nullptr, 0, &part, 1, control, sizeof control, 0};
    if (recvmsg(socket, &message, 0) <= 0) _exit(0);
    int descriptor = -1;
    if (message.msg_controllen != 0) std::memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
    if (descriptor >= 0) close(descriptor);
    mprotect(memory + kPageSize, kPageSize, access);
    send(socket, bytes, 64, MSG_NOSIGNAL);
  }
}

/// beginFollowers(count): their pids.
Napi::Value beginFollowers(const Napi::CallbackInfo& info) {
  Napi::Array pids = Napi::Array::New(info.Env());
  for (int i = 0; i < number(info[0]); i++) {
    int ends[2];
    must(info.Env(), socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    const pid_t process = fork();
    must(info.Env(), process >= 0, "fork");
    if (process == 0) {
      // Theirs end with the sockets of this process.
      for (const Follower& other : followers) close(other.socket);
      close(ends[0]);
      follow(ends[1]);
    }
    close(ends[1]);
    followers.push_back({ends[0], process});
    pids[pids.Length()] = Napi::Number::New(info.Env(), process);
  }
  return pids;
}

/// tellFollowers(count): each has done as it was told, so many times.
void tellFollowers(const Napi::CallbackInfo& info) {
  char message[256] = {};
  for (int i = 0; i < number(info[0]); i++) {
    for (const Follower& each : followers) send(each.socket, message, 128, MSG_NOSIGNAL);
    for (const Follower& each : followers) must(info.Env(), recv(each.socket, message, sizeof message, 0) > 0, "recv");
  }
}

/// giveFollower(fd, count): the first is given a descriptor, and has answered, so many times.
void giveFollower(const Napi::CallbackInfo& info) {
  const int socket = followers.at(0).socket;
  char bytes[256] = {};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part = {bytes, 128};
  msghdr message = {nullptr, 0, &part, 1, control, sizeof control, 0};
  *CMSG_FIRSTHDR(&message) = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  const int fd = number(info[0]);
  std::memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fd, sizeof fd);
  for (int i = 0; i < number(info[1]); i++) {
    must(info.Env(), sendmsg(socket, &message, MSG_NOSIGNAL) > 0, "sendmsg");
    must(info.Env(), recv(socket, bytes, sizeof bytes, 0) > 0, "recv");
  }
}

void endFollowers(const Napi::CallbackInfo&) {
  for (const Follower& each : followers) {
    close(each.socket);
    waitpid(each.process, nullptr, 0);
  }
  followers.clear();
}

/// std::map from an offset to what is there: the least that any native manager of mappings does.
std::map<uint64_t, Piece> tree;

/// treeFill(keys: Float64Array)
void treeFill(const Napi::CallbackInfo& info) {
  tree.clear();
  auto keys = info[0].As<Napi::Float64Array>();
  for (size_t i = 0; i < keys.ElementLength(); i++) tree[static_cast<uint64_t>(keys[i])] = {};
}

/// treeChange(keys: Float64Array): takes one key out, puts the next one in, and so on.
void treeChange(const Napi::CallbackInfo& info) {
  auto keys = info[0].As<Napi::Float64Array>();
  for (size_t i = 0; i + 1 < keys.ElementLength(); i += 2) {
    tree.erase(static_cast<uint64_t>(keys[i]));
    tree.emplace(static_cast<uint64_t>(keys[i + 1]), Piece{});
  }
}

template <void (*call)(const Napi::CallbackInfo&)>
void define(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<call>(exports.Env(), name));
}

Napi::Object init(Napi::Env, Napi::Object exports) {
  define<empty>(exports, "empty");
  define<remap>(exports, "remap");
  define<clear>(exports, "clear");
  define<punch>(exports, "punch");
  define<touch>(exports, "touch");
  define<watch>(exports, "watch");
  define<collect>(exports, "collect");
  define<writePages>(exports, "writePages");
  define<protect>(exports, "protect");
  exports.Set("serveFaults", Napi::Function::New<serveFaults>(exports.Env(), "serveFaults"));
  define<protectFaults>(exports, "protectFaults");
  define<endFaults>(exports, "endFaults");
  define<copy>(exports, "copy");
  define<flip>(exports, "flip");
  define<logWrites>(exports, "logWrites");
  define<takeLog>(exports, "takeLog");
  define<build>(exports, "build");
  define<exits>(exports, "exits");
  exports.Set("beginFollowers", Napi::Function::New<beginFollowers>(exports.Env(), "beginFollowers"));
  define<tellFollowers>(exports, "tellFollowers");
  define<giveFollower>(exports, "giveFollower");
  define<endFollowers>(exports, "endFollowers");
  define<treeFill>(exports, "treeFill");
  define<treeChange>(exports, "treeChange");
  return exports;
}

}  // namespace

NODE_API_MODULE(baseline, init)
