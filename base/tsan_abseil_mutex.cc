// For builds with ThreadSanitizer alone: tells it what absl::Mutex orders. Abseil as the system
// ships it was not built with the sanitizer, which would therefore take everything that such a lock
// guards for a race.
//
// The linker sends our own calls through here (--wrap, base/CMakeLists.txt). A condition that Await
// is given is looked at inside the library: use a bool, or a loop around a CondVar.

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

extern "C" {

void __tsan_acquire(void* address);
void __tsan_release(void* address);

void SheafRealLock(absl::Mutex* mutex) __asm__("__real__ZN4absl7debian35Mutex4LockEv");
void SheafRealUnlock(absl::Mutex* mutex) __asm__("__real__ZN4absl7debian35Mutex6UnlockEv");
void SheafRealWait(absl::CondVar* changed,
                   absl::Mutex* mutex) __asm__("__real__ZN4absl7debian37CondVar4WaitEPNS0_5MutexE");
bool SheafRealWaitWithTimeout(absl::CondVar* changed, absl::Mutex* mutex, absl::Duration timeout) __asm__(
    "__real__ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
bool SheafRealWaitWithDeadline(absl::CondVar* changed, absl::Mutex* mutex, absl::Time deadline) __asm__(
    "__real__ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
void SheafRealAwait(absl::Mutex* mutex, const absl::Condition& condition) __asm__(
    "__real__ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE");
bool SheafRealAwaitWithTimeout(absl::Mutex* mutex, const absl::Condition& condition, absl::Duration timeout) __asm__(
    "__real__ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
bool SheafRealAwaitWithDeadline(absl::Mutex* mutex, const absl::Condition& condition, absl::Time deadline) __asm__(
    "__real__ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");

void SheafWrapLock(absl::Mutex* mutex) __asm__("__wrap__ZN4absl7debian35Mutex4LockEv");
void SheafWrapLock(absl::Mutex* mutex) {
  SheafRealLock(mutex);
  __tsan_acquire(mutex);
}

void SheafWrapUnlock(absl::Mutex* mutex) __asm__("__wrap__ZN4absl7debian35Mutex6UnlockEv");
void SheafWrapUnlock(absl::Mutex* mutex) {
  __tsan_release(mutex);
  SheafRealUnlock(mutex);
}

void SheafWrapWait(absl::CondVar* changed,
                   absl::Mutex* mutex) __asm__("__wrap__ZN4absl7debian37CondVar4WaitEPNS0_5MutexE");
void SheafWrapWait(absl::CondVar* changed, absl::Mutex* mutex) {
  __tsan_release(mutex);
  SheafRealWait(changed, mutex);
  __tsan_acquire(mutex);
}

bool SheafWrapWaitWithTimeout(absl::CondVar* changed, absl::Mutex* mutex, absl::Duration timeout) __asm__(
    "__wrap__ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
bool SheafWrapWaitWithTimeout(absl::CondVar* changed, absl::Mutex* mutex, absl::Duration timeout) {
  __tsan_release(mutex);
  const bool timed_out = SheafRealWaitWithTimeout(changed, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

bool SheafWrapWaitWithDeadline(absl::CondVar* changed, absl::Mutex* mutex, absl::Time deadline) __asm__(
    "__wrap__ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
bool SheafWrapWaitWithDeadline(absl::CondVar* changed, absl::Mutex* mutex, absl::Time deadline) {
  __tsan_release(mutex);
  const bool timed_out = SheafRealWaitWithDeadline(changed, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

void SheafWrapAwait(absl::Mutex* mutex, const absl::Condition& condition) __asm__(
    "__wrap__ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE");
void SheafWrapAwait(absl::Mutex* mutex, const absl::Condition& condition) {
  __tsan_release(mutex);
  SheafRealAwait(mutex, condition);
  __tsan_acquire(mutex);
}

bool SheafWrapAwaitWithTimeout(absl::Mutex* mutex, const absl::Condition& condition, absl::Duration timeout) __asm__(
    "__wrap__ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
bool SheafWrapAwaitWithTimeout(absl::Mutex* mutex, const absl::Condition& condition,
                               absl::Duration timeout) {
  __tsan_release(mutex);
  const bool holds = SheafRealAwaitWithTimeout(mutex, condition, timeout);
  __tsan_acquire(mutex);
  return holds;
}

bool SheafWrapAwaitWithDeadline(absl::Mutex* mutex, const absl::Condition& condition, absl::Time deadline) __asm__(
    "__wrap__ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
bool SheafWrapAwaitWithDeadline(absl::Mutex* mutex, const absl::Condition& condition,
                                absl::Time deadline) {
  __tsan_release(mutex);
  const bool holds = SheafRealAwaitWithDeadline(mutex, condition, deadline);
  __tsan_acquire(mutex);
  return holds;
}

}  // extern "C"
