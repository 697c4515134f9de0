// For LD_PRELOAD: a disk that takes SHEAF_SLOW_READ_MS for each read of 16 KiB and more.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t pread64(int fd, void* out, size_t bytes, off64_t offset) {
  static ssize_t (*next)(int, void*, size_t, off64_t);
  if (!next) next = (ssize_t(*)(int, void*, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
  const char* const ms = getenv("SHEAF_SLOW_READ_MS");
  if (ms && bytes >= 16384 && offset > 0) usleep((useconds_t)atoi(ms) * 1000);
  return next(fd, out, bytes, offset);
}

ssize_t pread(int fd, void* out, size_t bytes, off_t offset) { return pread64(fd, out, bytes, offset); }
