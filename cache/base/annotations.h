// Clang thread-safety annotations (-Wthread-safety); empty under other compilers.
// Source of the names: Clang's documentation of Thread Safety Analysis.
#pragma once

#if defined(__clang__)
#define CACHE_ANNOTATION(x) __attribute__((x))
#else
#define CACHE_ANNOTATION(x)
#endif

#define CAPABILITY(x) CACHE_ANNOTATION(capability(x))
#define SCOPED_CAPABILITY CACHE_ANNOTATION(scoped_lockable)
#define GUARDED_BY(x) CACHE_ANNOTATION(guarded_by(x))
#define PT_GUARDED_BY(x) CACHE_ANNOTATION(pt_guarded_by(x))
#define REQUIRES(...) CACHE_ANNOTATION(requires_capability(__VA_ARGS__))
#define ACQUIRE(...) CACHE_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) CACHE_ANNOTATION(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) CACHE_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define EXCLUDES(...) CACHE_ANNOTATION(locks_excluded(__VA_ARGS__))
#define RETURN_CAPABILITY(x) CACHE_ANNOTATION(lock_returned(x))
#define NO_THREAD_SAFETY_ANALYSIS CACHE_ANNOTATION(no_thread_safety_analysis)
