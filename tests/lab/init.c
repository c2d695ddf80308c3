// The first program of the lab's machine. It loads the initrd's modules, takes the host's files as its root (read-only,
// over 9p, with a tmpfs at $scratch) and runs the shell script $job there. Both come from the kernel's command line.
// Its last line is `lab: the job ended with CODE`, or `lab: WHAT: ERROR` where it did not get that far. Bytes that come
// at the second serial port are sent back: that is the machine's pulse.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static _Noreturn void powerOff(void) {
  fflush(stdout);
  tcdrain(STDOUT_FILENO);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}

static void check(int result, const char* what) {
  if (result >= 0) return;
  printf("lab: %s: %s\n", what, strerror(errno));
  powerOff();
}

static void mountNew(const char* type, const char* path) {
  mkdir(path, 0755);
  check(mount(type, path, type, 0, NULL), path);
}

static void openConsole(void) {
  const int console = open("/dev/console", O_RDWR);
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) dup2(console, fd);
}

/// /modules/list names them in the order in which they need each other.
static void loadModules(void) {
  char path[PATH_MAX];
  FILE* list = fopen("/modules/list", "r");
  check(list == NULL ? -1 : 0, "the list of modules");
  while (fscanf(list, "%4095s", path) == 1) {
    const int module = open(path, O_RDONLY);
    check(module, path);
    check((int)syscall(SYS_finit_module, module, "", 0), path);
    close(module);
  }
  fclose(list);
}

static void enterHost(const char* scratch) {
  char path[PATH_MAX];
  mkdir("/host", 0755);
  check(mount("host", "/host", "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=262144,cache=loose"), "9p");
  snprintf(path, sizeof path, "/host%s", scratch);
  check(mount("tmpfs", path, "tmpfs", 0, NULL), scratch);
  check(mount("/dev", "/host/dev", NULL, MS_MOVE, NULL), "/dev");
  check(mount("/proc", "/host/proc", NULL, MS_MOVE, NULL), "/proc");
  check(mount("/sys", "/host/sys", NULL, MS_MOVE, NULL), "/sys");
  check(chroot("/host"), "chroot");
  check(chdir("/"), "chdir");
  mountNew("tmpfs", "/dev/shm");
  mountNew("devpts", "/dev/pts");
  check(symlink("/proc/self/fd", "/dev/fd"), "/dev/fd");
}

/// The loopback device has its addresses once it is up.
static void raiseLoopback(void) {
  const int any = socket(AF_INET, SOCK_DGRAM, 0);
  check(any, "socket");
  struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  check(ioctl(any, SIOCSIFFLAGS, &loopback), "lo");
  close(any);
}

static void startPulse(void) {
  const int port = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
  check(port, "/dev/ttyS1");
  struct termios settings;
  check(tcgetattr(port, &settings), "/dev/ttyS1");
  cfmakeraw(&settings);
  check(tcsetattr(port, TCSANOW, &settings), "/dev/ttyS1");
  const pid_t pulse = fork();
  check(pulse, "fork");
  char byte;
  while (pulse == 0 && read(port, &byte, 1) == 1 && write(port, &byte, 1) == 1) continue;
  if (pulse == 0) _exit(1);
  close(port);
}

static int runJob(const char* job, const char* scratch) {
  const pid_t shell = fork();
  check(shell, "fork");
  if (shell == 0) {
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", scratch, 1);
    setenv("TMPDIR", scratch, 1);
    execl("/bin/sh", "sh", job, NULL);
    _exit(127);
  }
  // The first program inherits the orphans of all others.
  int status = 0;
  for (pid_t ended = 0; ended != shell;) ended = wait(&status);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(void) {
  const char* job = getenv("job");
  const char* scratch = getenv("scratch");
  mountNew("proc", "/proc");
  mountNew("sysfs", "/sys");
  mountNew("devtmpfs", "/dev");
  openConsole();
  startPulse();
  check(job == NULL || scratch == NULL ? -1 : 0, "job= and scratch= are needed");
  loadModules();
  enterHost(scratch);
  raiseLoopback();
  printf("lab: the job ended with %d\n", runJob(job, scratch));
  powerOff();
}
