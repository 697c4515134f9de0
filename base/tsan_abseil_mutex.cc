// For builds with ThreadSanitizer alone: tells it what absl::Mutex and absl::Notification order.
// Abseil as the system ships it was not built with the sanitizer, which would therefore take
// everything that such a lock guards for a race.
//
// The linker sends our own calls through here (--wrap, base/CMakeLists.txt, which lists the same
// names). A condition is looked at inside the library by whichever thread has the lock just then:
// each is wrapped in one that says so.

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#define SHEAF_REAL(name) __asm__("__real__ZN4absl7debian3" name)
#define SHEAF_WRAP(name) __asm__("__wrap__ZN4absl7debian3" name)
#define SHEAF_REAL_CONST(name) __asm__("__real__ZNK4absl7debian3" name)
#define SHEAF_WRAP_CONST(name) __asm__("__wrap__ZNK4absl7debian3" name)

#define SHEAF_LOCK "5Mutex4LockEv"
#define SHEAF_TRY_LOCK "5Mutex7TryLockEv"
#define SHEAF_UNLOCK "5Mutex6UnlockEv"
#define SHEAF_READER_LOCK "5Mutex10ReaderLockEv"
#define SHEAF_READER_UNLOCK "5Mutex12ReaderUnlockEv"
#define SHEAF_AWAIT "5Mutex5AwaitERKNS0_9ConditionE"
#define SHEAF_AWAIT_WITH_TIMEOUT "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE"
#define SHEAF_AWAIT_WITH_DEADLINE "5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE"
#define SHEAF_WAIT "7CondVar4WaitEPNS0_5MutexE"
#define SHEAF_WAIT_WITH_TIMEOUT "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE"
#define SHEAF_WAIT_WITH_DEADLINE "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE"
#define SHEAF_NOTIFY "12Notification6NotifyEv"
#define SHEAF_WAIT_FOR "12Notification19WaitForNotificationEv"
#define SHEAF_WAIT_FOR_WITH_TIMEOUT \
  "12Notification30WaitForNotificationWithTimeoutENS0_8DurationE"

namespace {

// What looks for deadlocks has a lock of its own, which the sanitizer does not know.
[[maybe_unused]] const bool kIgnoresDeadlocks = [] {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return true;
}();

}  // namespace

extern "C" {

void __tsan_acquire(void* address);
void __tsan_release(void* address);

void SheafRealLock(absl::Mutex* mutex) SHEAF_REAL(SHEAF_LOCK);
void SheafWrapLock(absl::Mutex* mutex) SHEAF_WRAP(SHEAF_LOCK);
bool SheafRealTryLock(absl::Mutex* mutex) SHEAF_REAL(SHEAF_TRY_LOCK);
bool SheafWrapTryLock(absl::Mutex* mutex) SHEAF_WRAP(SHEAF_TRY_LOCK);
void SheafRealUnlock(absl::Mutex* mutex) SHEAF_REAL(SHEAF_UNLOCK);
void SheafWrapUnlock(absl::Mutex* mutex) SHEAF_WRAP(SHEAF_UNLOCK);
void SheafRealReaderLock(absl::Mutex* mutex) SHEAF_REAL(SHEAF_READER_LOCK);
void SheafWrapReaderLock(absl::Mutex* mutex) SHEAF_WRAP(SHEAF_READER_LOCK);
void SheafRealReaderUnlock(absl::Mutex* mutex) SHEAF_REAL(SHEAF_READER_UNLOCK);
void SheafWrapReaderUnlock(absl::Mutex* mutex) SHEAF_WRAP(SHEAF_READER_UNLOCK);
void SheafRealAwait(absl::Mutex* mutex, const absl::Condition& condition) SHEAF_REAL(SHEAF_AWAIT);
void SheafWrapAwait(absl::Mutex* mutex, const absl::Condition& condition) SHEAF_WRAP(SHEAF_AWAIT);
bool SheafRealAwaitWithTimeout(absl::Mutex* mutex, const absl::Condition& condition,
                               absl::Duration timeout) SHEAF_REAL(SHEAF_AWAIT_WITH_TIMEOUT);
bool SheafWrapAwaitWithTimeout(absl::Mutex* mutex, const absl::Condition& condition,
                               absl::Duration timeout) SHEAF_WRAP(SHEAF_AWAIT_WITH_TIMEOUT);
bool SheafRealAwaitWithDeadline(absl::Mutex* mutex, const absl::Condition& condition,
                                absl::Time deadline) SHEAF_REAL(SHEAF_AWAIT_WITH_DEADLINE);
bool SheafWrapAwaitWithDeadline(absl::Mutex* mutex, const absl::Condition& condition,
                                absl::Time deadline) SHEAF_WRAP(SHEAF_AWAIT_WITH_DEADLINE);
void SheafRealWait(absl::CondVar* changed, absl::Mutex* mutex) SHEAF_REAL(SHEAF_WAIT);
void SheafWrapWait(absl::CondVar* changed, absl::Mutex* mutex) SHEAF_WRAP(SHEAF_WAIT);
bool SheafRealWaitWithTimeout(absl::CondVar* changed, absl::Mutex* mutex,
                              absl::Duration timeout) SHEAF_REAL(SHEAF_WAIT_WITH_TIMEOUT);
bool SheafWrapWaitWithTimeout(absl::CondVar* changed, absl::Mutex* mutex,
                              absl::Duration timeout) SHEAF_WRAP(SHEAF_WAIT_WITH_TIMEOUT);
bool SheafRealWaitWithDeadline(absl::CondVar* changed, absl::Mutex* mutex,
                               absl::Time deadline) SHEAF_REAL(SHEAF_WAIT_WITH_DEADLINE);
bool SheafWrapWaitWithDeadline(absl::CondVar* changed, absl::Mutex* mutex,
                               absl::Time deadline) SHEAF_WRAP(SHEAF_WAIT_WITH_DEADLINE);
void SheafRealNotify(absl::Notification* note) SHEAF_REAL(SHEAF_NOTIFY);
void SheafWrapNotify(absl::Notification* note) SHEAF_WRAP(SHEAF_NOTIFY);
void SheafRealWaitFor(absl::Notification* note) SHEAF_REAL_CONST(SHEAF_WAIT_FOR);
void SheafWrapWaitFor(absl::Notification* note) SHEAF_WRAP_CONST(SHEAF_WAIT_FOR);
bool SheafRealWaitForWithTimeout(absl::Notification* note, absl::Duration timeout)
    SHEAF_REAL_CONST(SHEAF_WAIT_FOR_WITH_TIMEOUT);
bool SheafWrapWaitForWithTimeout(absl::Notification* note, absl::Duration timeout)
    SHEAF_WRAP_CONST(SHEAF_WAIT_FOR_WITH_TIMEOUT);

}  // extern "C"

namespace {

struct Look {
  absl::Mutex* mutex;
  const absl::Condition* condition;
};

bool Holds(Look* look) {
  __tsan_acquire(look->mutex);
  const bool holds = look->condition->Eval();
  __tsan_release(look->mutex);
  return holds;
}

}  // namespace

extern "C" {

void SheafWrapLock(absl::Mutex* mutex) {
  SheafRealLock(mutex);
  __tsan_acquire(mutex);
}

bool SheafWrapTryLock(absl::Mutex* mutex) {
  const bool locked = SheafRealTryLock(mutex);
  if (locked) __tsan_acquire(mutex);
  return locked;
}

void SheafWrapUnlock(absl::Mutex* mutex) {
  __tsan_release(mutex);
  SheafRealUnlock(mutex);
}

void SheafWrapReaderLock(absl::Mutex* mutex) {
  SheafRealReaderLock(mutex);
  __tsan_acquire(mutex);
}

void SheafWrapReaderUnlock(absl::Mutex* mutex) {
  __tsan_release(mutex);
  SheafRealReaderUnlock(mutex);
}

void SheafWrapAwait(absl::Mutex* mutex, const absl::Condition& condition) {
  Look look{mutex, &condition};
  __tsan_release(mutex);
  SheafRealAwait(mutex, absl::Condition(Holds, &look));
  __tsan_acquire(mutex);
}

bool SheafWrapAwaitWithTimeout(absl::Mutex* mutex, const absl::Condition& condition,
                               absl::Duration timeout) {
  Look look{mutex, &condition};
  __tsan_release(mutex);
  const bool holds = SheafRealAwaitWithTimeout(mutex, absl::Condition(Holds, &look), timeout);
  __tsan_acquire(mutex);
  return holds;
}

bool SheafWrapAwaitWithDeadline(absl::Mutex* mutex, const absl::Condition& condition,
                                absl::Time deadline) {
  Look look{mutex, &condition};
  __tsan_release(mutex);
  const bool holds = SheafRealAwaitWithDeadline(mutex, absl::Condition(Holds, &look), deadline);
  __tsan_acquire(mutex);
  return holds;
}

void SheafWrapWait(absl::CondVar* changed, absl::Mutex* mutex) {
  __tsan_release(mutex);
  SheafRealWait(changed, mutex);
  __tsan_acquire(mutex);
}

bool SheafWrapWaitWithTimeout(absl::CondVar* changed, absl::Mutex* mutex, absl::Duration timeout) {
  __tsan_release(mutex);
  const bool timed_out = SheafRealWaitWithTimeout(changed, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

bool SheafWrapWaitWithDeadline(absl::CondVar* changed, absl::Mutex* mutex, absl::Time deadline) {
  __tsan_release(mutex);
  const bool timed_out = SheafRealWaitWithDeadline(changed, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

void SheafWrapNotify(absl::Notification* note) {
  __tsan_release(note);
  SheafRealNotify(note);
}

void SheafWrapWaitFor(absl::Notification* note) {
  SheafRealWaitFor(note);
  __tsan_acquire(note);
}

bool SheafWrapWaitForWithTimeout(absl::Notification* note, absl::Duration timeout) {
  const bool notified = SheafRealWaitForWithTimeout(note, timeout);
  if (notified) __tsan_acquire(note);
  return notified;
}

}  // extern "C"
